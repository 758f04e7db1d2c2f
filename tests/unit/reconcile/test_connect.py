"""From a RestateEngine's specification to a URL and credentials."""

from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.engine import EngineSpec
from invocation_operator.cluster.client import KubeClient
from invocation_operator.engine.client import Connection
from invocation_operator.plan.urls import UrlPattern
from invocation_operator.reconcile.connect import address_of, connection_of, may_refer, static_url, url_of
from invocation_operator.reconcile.waiting import Waiting
from tests.unit.reconcile.fake_kube import FakeKube

DOMAIN = "cluster.local"


def spec_of(**fields: Any) -> EngineSpec:
    return EngineSpec.model_validate(fields)


async def connected(kube: FakeKube, **fields: Any) -> Connection:
    return await connection_of(cast("KubeClient", kube), "shop", spec_of(**fields), cluster_domain=DOMAIN)


async def refused(kube: FakeKube, **fields: Any) -> Waiting:
    with pytest.raises(Waiting) as caught:
        await connected(kube, **fields)
    return caught.value


TOKEN = {"bearerTokenSecret": {"name": "token", "key": "token"}}
TLS = {"caSecret": {"name": "ca", "key": "ca.crt"}}


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        pytest.param({"cluster": "prod"}, "http://restate.prod.svc.cluster.local:9070", id="as the restate-operator"),
        pytest.param({"service": {"name": "r"}}, "http://r.shop.svc.cluster.local:9070", id="own namespace, own port"),
        pytest.param(
            {"service": {"name": "r", "namespace": "data", "port": 80, "path": "/admin/"}},
            "http://r.data.svc.cluster.local:80/admin",
            id="everything said",
        ),
        pytest.param(
            {"service": {"name": "r"}, "tls": {}}, "https://r.shop.svc.cluster.local:9070", id="tls means https"
        ),
        pytest.param({"url": "https://r.example/admin/"}, "https://r.example/admin", id="the slash is ours"),
        pytest.param({"cloud": "prod"}, None, id="only the environment knows"),
    ],
)
def test_static_url_of_each_way_to_name_an_engine(fields: dict[str, Any], url: str | None) -> None:
    assert static_url("shop", spec_of(**fields), DOMAIN) == url


def test_static_url_follows_the_cluster_domain() -> None:
    assert static_url("shop", spec_of(cluster="prod"), "k8s.example") == "http://restate.prod.svc.k8s.example:9070"


async def test_cloud_url_is_made_of_the_environment() -> None:
    kube = FakeKube()
    kube.environment("prod", environmentId="env_201abc", region="us.eu-1")
    url = await url_of(cast("KubeClient", kube), "shop", spec_of(cloud="prod"), DOMAIN)
    assert url == "https://201abc.env.us.eu-1.restate.cloud:9070"


async def test_cloud_environment_that_is_missing_is_named() -> None:
    found = await refused(FakeKube(), cloud="prod")
    assert (found.reason, found.stalled) == ("CloudEnvironmentNotFound", False)
    assert "prod" in found.message


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"region": "eu"}, id="no id"),
        pytest.param({"environmentId": "env_1"}, id="no region"),
        pytest.param({"environmentId": "env_1", "region": "eu/../evil.example#"}, id="a region that ends the host"),
        pytest.param({"environmentId": "a.evil.example/", "region": "eu"}, id="an id that is another host"),
        pytest.param({"environmentId": "env_1", "region": 7}, id="no text"),
    ],
)
async def test_cloud_environment_that_would_lead_the_token_elsewhere_is_refused(environment: dict[str, Any]) -> None:
    kube = FakeKube()
    kube.environment("prod", **environment)
    found = await refused(kube, cloud="prod")
    assert (found.reason, found.stalled) == ("CloudEnvironmentInvalid", True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://R.example:9070", "http://r.EXAMPLE:9070/", True),
        ("http://r.example:9070", "https://r.example:9070", True),
        ("https://r.example", "https://r.example:443/", True),
        ("http://r.example", "http://r.example:80", True),
        ("http://r.shop.svc:9070", "http://r.shop.svc.cluster.local:9070", True),
        ("http://localhost:9070", "http://127.0.0.1:9070", True),
        ("http://r.example/admin", "http://r.example/%61dmin//", True),
        ("http://r.example/admin", "http://r.example/./admin/v3", True),
        ("http://[::1]:9070", "http://[::1]:9070/v2/", True),
        ("http://r.example:9070", "http://r.example:9071", False),
        ("http://r.example/a", "http://r.example/b", False),
        ("http://r.shop.svc:9070", "http://r.data.svc:9070", False),
    ],
)
def test_address_is_the_same_however_it_is_spelled(one: str, other: str, same: bool) -> None:
    assert (address_of(one, DOMAIN) == address_of(other, DOMAIN)) is same


# Credentials.


async def test_token_is_trimmed() -> None:
    kube = FakeKube()
    kube.secret("shop", "token", token=" s3cr3t\r\n")
    connection = await connected(kube, url="https://r.example", auth=TOKEN)
    assert connection.token == "s3cr3t"
    assert "s3cr3t" not in repr(connection)


async def test_secret_without_the_label_is_refused_whatever_it_holds() -> None:
    kube = FakeKube()
    kube.secret("shop", "token", labelled=False, token="s3cr3t")
    found = await refused(kube, url="https://r.example", auth=TOKEN)
    assert found.reason == "SecretNotLabelled"
    assert "ops.restate.dev/engine-credential" in found.message
    assert "s3cr3t" not in found.message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(None, "SecretNotFound", id="no Secret"),
        pytest.param({"other": "x"}, "SecretNotFound", id="no such key"),
        pytest.param({"token": ""}, "SecretNotFound", id="nothing under the key"),
        pytest.param({"token": " \n"}, "SecretInvalid", id="white space only"),
        pytest.param({"token": b"\xff\xfe"}, "SecretInvalid", id="no text"),
    ],
)
async def test_token_that_cannot_be_used_is_waited_for(data: dict[str, bytes | str] | None, reason: str) -> None:
    kube = FakeKube()
    if data is not None:
        kube.secret("shop", "token", **data)
    found = await refused(kube, url="https://r.example", auth=TOKEN)
    assert (found.reason, found.stalled) == (reason, False)
    assert reason == "SecretInvalid" or "shop/token" in found.message


async def test_operator_that_may_not_read_secrets_says_so() -> None:
    kube = FakeKube()
    kube.forbidden.add("secrets")
    found = await refused(kube, url="https://r.example", auth=TOKEN)
    assert found.reason == "Forbidden"
    assert "role" in found.message


@pytest.mark.parametrize(
    ("url", "travels"),
    [
        ("https://r.example", True),
        ("http://localhost:9070", True),
        ("http://127.0.0.1:9070", True),
        ("http://127.8.8.8:9070", True),
        ("http://[::1]:9070", True),
        ("http://r.shop.svc:9070", True),
        ("http://R.shop.SVC.cluster.LOCAL:9070", True),
        ("http://r.example:9070", False),
        ("http://10.0.0.7:9070", False),
        ("http://r.shop.svc.evil.example:9070", False),
        ("http://r.shop.svc.cluster.local.evil.example", False),
        ("http://svc:9070", False),
        ("http://localhost.evil.example", False),
    ],
)
async def test_token_over_plain_http_goes_only_to_the_cluster_and_loopback(url: str, travels: bool) -> None:
    kube = FakeKube()
    kube.secret("shop", "token", token="s3cr3t")
    if travels:
        assert (await connected(kube, url=url, auth=TOKEN)).token == "s3cr3t"
        return
    found = await refused(kube, url=url, auth=TOKEN)
    assert (found.reason, found.stalled) == ("TokenOverPlainHttp", True)
    assert not kube.asked, "the Secret was read although its token must not be sent"


async def test_tls_material_comes_from_labelled_secrets() -> None:
    kube = FakeKube()
    kube.secret("shop", "ca", ca_crt="CA")
    kube.secret("shop", "client", tls_crt="CERT", tls_key="KEY")
    tls = {**TLS, "clientCertSecret": {"name": "client"}, "serverName": "engine.internal"}
    found = await connected(kube, url="https://r.example", tls=tls)
    assert found == Connection("https://r.example", None, "CA", b"CERT", b"KEY", "engine.internal")


@pytest.mark.parametrize("broken", ["ca", "client"])
async def test_tls_material_without_the_label_is_refused(broken: str) -> None:
    kube = FakeKube()
    kube.secret("shop", "ca", labelled=broken != "ca", ca_crt="CA")
    kube.secret("shop", "client", labelled=broken != "client", tls_crt="CERT", tls_key="KEY")
    found = await refused(kube, url="https://r.example", tls={**TLS, "clientCertSecret": {"name": "client"}})
    assert found.reason == "SecretNotLabelled"
    assert f"shop/{broken}" in found.message


# Who may refer.

TEAM_A = {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "may"),
    [
        (None, "shop", {}, True),
        (None, "other", {}, False),
        ({"from": "Same"}, "other", {"team": "a"}, False),
        ({"from": "All"}, "other", {}, True),
        (TEAM_A, "other", {"team": "a"}, True),
        (TEAM_A, "other", {"team": "b"}, False),
        (TEAM_A, "shop", {}, False),
        ({"from": "Selector", "selector": {}}, "other", {}, True),
        ({"from": "Selector"}, "other", {}, False),
    ],
)
def test_may_refer(allowed: dict[str, Any] | None, namespace: str, labels: dict[str, str], may: bool) -> None:
    fields = {"allowedNamespaces": allowed} if allowed else {}
    assert may_refer(spec_of(url="http://r.example", **fields), "shop", namespace, labels) is may


async def test_engine_where_the_operator_lets_none_be_is_not_connected_to_and_its_token_not_read() -> None:
    kube = FakeKube()
    kube.secret("shop", "token", token="s3cr3t")
    spec = EngineSpec.model_validate({"url": "https://elsewhere.example", "auth": TOKEN})
    allowed = [UrlPattern.parse("https://*.engines.example")]
    with pytest.raises(Waiting) as caught:
        await connection_of(
            cast("KubeClient", kube), "shop", spec, cluster_domain="cluster.local", allowed_urls=allowed
        )
    assert (caught.value.reason, caught.value.stalled) == ("UrlNotAllowed", True)
    assert not kube.asked
    spec = EngineSpec.model_validate({"url": "https://a.engines.example"})
    found = await connection_of(
        cast("KubeClient", kube), "shop", spec, cluster_domain="cluster.local", allowed_urls=allowed
    )
    assert found.url == "https://a.engines.example"
