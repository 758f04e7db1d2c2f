"""Patterns of URLs that engines may have, and ways around them."""

import pytest

from invocation_operator.plan.urls import UrlPattern

CLUSTER = "http://*.svc.cluster.local:9070"


@pytest.mark.parametrize(
    ("pattern", "url", "admitted"),
    [
        pytest.param(CLUSTER, "http://restate.shop.svc.cluster.local:9070", True, id="as meant"),
        pytest.param(CLUSTER, "http://RESTATE.shop.svc.cluster.local.:9070/", True, id="spelt otherwise"),
        pytest.param(CLUSTER, "http://restate.shop.svc.cluster.local:9070/v3/x", True, id="below it"),
        pytest.param(CLUSTER, "https://restate.shop.svc.cluster.local:9070", False, id="another scheme"),
        pytest.param(CLUSTER, "http://restate.shop.svc.cluster.local", False, id="the scheme's port"),
        pytest.param(CLUSTER, "http://restate.shop.svc.cluster.local:9071", False, id="another port"),
        pytest.param(CLUSTER, "http://evil.example:9070/.svc.cluster.local:9070", False, id="the host in the path"),
        pytest.param(CLUSTER, "http://x.svc.cluster.local:9070@evil.example:9070", False, id="the host as a user"),
        pytest.param(CLUSTER, "http://x.svc.cluster.local.evil.example:9070", False, id="the host in the host"),
        pytest.param(CLUSTER, "http://169.254.169.254", False, id="metadata of a cloud"),
        pytest.param("https://engine.example", "https://engine.example:443", True, id="the scheme's port, said"),
        pytest.param("https://engine.example:*", "https://engine.example:19070", True, id="any port"),
        pytest.param("https://e*.example", "https://evil.example", True, id="any part"),
        pytest.param("https://engine.example", "https://engineXexample", False, id="a dot is a dot"),
        pytest.param("http://[::1]:9070", "http://[::1]:9070", True, id="IPv6"),
        pytest.param("https://front.example/teams/a", "https://front.example/teams/a/v3", True, id="below a path"),
        pytest.param("https://front.example/teams/a", "https://front.example/teams/ab", False, id="a longer name"),
        pytest.param("https://front.example/teams/a", "https://front.example/teams/a/../b", False, id="up again"),
        pytest.param("https://front.example/teams/a", "https://front.example/teams/a/%2e%2e/b", False, id="encoded"),
    ],
)
def test_url_pattern_admits_what_it_means(pattern: str, url: str, admitted: bool) -> None:
    assert UrlPattern.parse(pattern).admits(url) is admitted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "engine.example",
        "ftp://engine.example",
        "http://",
        "https://a b",
        "http://x:port",
        "http://x/*",
        "http://x?y",
    ],
)
def test_url_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="http"):
        UrlPattern.parse(text)
