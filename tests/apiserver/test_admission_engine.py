"""Which engines are admitted: one address, no secret in it or sent in the clear, guardrails that mean something."""

from typing import Any

import pytest

from tests.apiserver.conftest import Admission

Spec = dict[str, Any]

TOKEN = {"bearerTokenSecret": {"name": "restate", "key": "token"}}
CA = {"caSecret": {"name": "ca", "key": "ca.crt"}}
HERE: Spec = {"url": "https://restate.example:9070"}

ACCEPTED: list[tuple[str, Spec]] = [
    ("a RestateCluster", {"cluster": "production"}),
    ("a Service", {"service": {"name": "restate"}}),
    ("every field of a Service", {"service": {"name": "restate", "namespace": "r", "port": 19070, "path": "/admin/"}}),
    ("a URL", {"url": "http://restate.example:9070"}),
    ("a URL with a path", {"url": "https://front.example/restate/admin"}),
    ("an address", {"url": "https://192.0.2.1:9070"}),
    ("an IPv6 address", {"url": "https://[2001:db8::1]:9070"}),
    ("an IPv6 address without a port", {"url": "http://[fd00::100:0]/"}),
    ("the highest port", {"url": "https://restate.example:65535/x"}),
    ("Restate Cloud", {"cloud": "production"}),
    ("a token over https", {"url": "https://restate.example", "auth": TOKEN}),
    ("a token to a RestateCluster", {"cluster": "production", "auth": TOKEN}),
    ("a token to a Service", {"service": {"name": "restate"}, "auth": TOKEN}),
    *[
        (f"a token over http to {host}", {"url": f"http://{host}", "auth": TOKEN})
        for host in (
            "restate.prod.svc:9070",
            "restate.prod.svc",
            "restate.prod.svc.cluster.local:9070/admin",
            "RESTATE.prod.SVC",
            "localhost:9070",
            "127.0.0.1:9070",
            "127.8.9.10",
            "[::1]:9070/x",
        )
    ],
    ("TLS to a Service, which makes it https", {"service": {"name": "restate"}, "tls": CA}),
    ("a private authority", {"url": "https://restate.example", "tls": CA}),
    (
        "mutual TLS with Cloud",
        {"cloud": "p", "tls": CA | {"clientCertSecret": {"name": "client"}, "serverName": "x.example"}},
    ),
    ("all namespaces", HERE | {"allowedNamespaces": {"from": "All"}}),
    ("an empty rule", HERE | {"allowedNamespaces": {}}),
    (
        "selected namespaces",
        HERE | {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}},
    ),
    (
        "a selector of expressions",
        HERE
        | {
            "allowedNamespaces": {
                "from": "Selector",
                "selector": {
                    "matchExpressions": [
                        {"key": "team", "operator": "In", "values": ["a"]},
                        {"key": "x", "operator": "Exists"},
                    ]
                },
            }
        },
    ),
    (
        "every guardrail",
        HERE
        | {
            "guardrails": {
                "allowedActions": ["Cancel", "SetRetention"],
                "protectedServices": ["payments", "ledger-*"],
                "maxTargets": 5000,
                "requireApprovalFor": ["Kill"],
                "requireReasonFor": ["Kill"],
                "requireNotAfter": True,
                "namespaces": [
                    {"selector": {"matchLabels": {"team": "a"}}, "services": ["a-*"], "actions": ["Cancel"]}
                ],
            }
        },
    ),
    ("nothing is allowed", HERE | {"guardrails": {"allowedActions": []}}),
    ("every limit", HERE | {"limits": {"maxInFlight": 10, "operationsPerSecond": 5, "queryTimeout": "1m"}}),
    ("the kill switch", HERE | {"suspend": True, "redactKeys": True}),
]

ONE_OF = "exactly one of cluster, service, url and cloud"
CLEAR = "a bearer token is not sent over plain http"
HTTPS = "tls is for https only"
SELECTOR = "selector is required with from: Selector"

REJECTED: list[tuple[str, Spec, str]] = [
    ("no address", {}, ONE_OF),
    ("two addresses", {"cluster": "a", "url": "https://a.example"}, ONE_OF),
    ("all addresses", {"cluster": "a", "url": "https://a.example", "service": {"name": "a"}, "cloud": "a"}, ONE_OF),
    ("a null address beside another", {"cluster": None, "url": "https://a.example"}, "cluster is null"),
    ("a user in the URL", {"url": "https://admin@restate.example"}, "spec.url"),
    ("a password in the URL", {"url": "https://admin:secret@restate.example:9070"}, "spec.url"),
    ("a token in the query", {"url": "https://restate.example/?token=x"}, "spec.url"),
    ("a fragment", {"url": "https://restate.example/#x"}, "spec.url"),
    ("a backslash that some readers take for a slash", {"url": "http://evil.example\\.prod.svc"}, "spec.url"),
    ("no scheme", {"url": "restate.example:9070"}, "spec.url"),
    ("another scheme", {"url": "file:///etc/passwd"}, "spec.url"),
    ("no host", {"url": "https:///x"}, "spec.url"),
    ("a port that there is not", {"url": "https://restate.example:65536"}, "a number from 1 to 65535"),
    ("port 0 in the URL", {"url": "http://[2001:db8::1]:00/x"}, "a number from 1 to 65535"),
    ("brackets around something else", {"url": "http://[:::::]:9070"}, "must be an IPv6 address"),
    ("brackets around an IPv4 address", {"url": "http://[192.0.2.1]"}, "must be an IPv6 address"),
    ("white space", {"url": "https://restate.example /x"}, "spec.url"),
    ("a line break", {"url": "https://restate.example\nHost: x"}, "spec.url"),
    *[
        (f"a token over http to {host}", {"url": f"http://{host}", "auth": TOKEN}, CLEAR)
        for host in (
            "restate.example:9070",
            "192.0.2.1",
            "svc",
            "restate.prod",
            "restate",
            "restate.prod.svcs",
            "prodsvc",
            "127.example",
            "127.0.0.1.example",
            "localhost.example",
            "[2001:db8::1]",
            "evil.example/x.prod.svc",
            "evil.example:80/.svc",
        )
    ],
    ("TLS over http", {"url": "http://restate.prod.svc", "tls": CA}, HTTPS),
    ("TLS to a RestateCluster", {"cluster": "a", "tls": CA}, HTTPS),
    ("a Service's name that changes the host", {"service": {"name": "evil.example/"}}, "spec.service.name"),
    ("a Service's name of several parts", {"service": {"name": "a.b"}}, "spec.service.name"),
    ("a namespace that changes the host", {"service": {"name": "a", "namespace": "b#"}}, "spec.service.namespace"),
    ("a cluster's name that changes the host", {"cluster": "a.evil.example"}, "spec.cluster"),
    ("a path with a query", {"service": {"name": "a", "path": "/x?y"}}, "spec.service.path"),
    ("a path that begins nowhere", {"service": {"name": "a", "path": "x"}}, "spec.service.path"),
    ("port 0", {"service": {"name": "a", "port": 0}}, "greater than or equal to 1"),
    ("a token's Secret without a key", HERE | {"auth": {"bearerTokenSecret": {"name": "a"}}}, "key: Required"),
    ("a token's Secret that is null", HERE | {"auth": {"bearerTokenSecret": None}}, "bearerTokenSecret is null"),
    ("a CA that is null would be the system's", HERE | {"tls": {"caSecret": None}}, "caSecret is null"),
    ("from: Selector without one", HERE | {"allowedNamespaces": {"from": "Selector"}}, SELECTOR),
    ("a selector without from", HERE | {"allowedNamespaces": {"selector": {}}}, SELECTOR),
    ("a selector with from: All", HERE | {"allowedNamespaces": {"from": "All", "selector": {}}}, SELECTOR),
    (
        "labels that are null would select everything",
        HERE | {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": None}}},
        "matchLabels is null",
    ),
    *[
        (
            f"{operator} with {values}",
            HERE
            | {
                "allowedNamespaces": {
                    "from": "Selector",
                    "selector": {
                        "matchExpressions": [
                            {"key": "a", "operator": operator} | ({} if values is None else {"values": values})
                        ]
                    },
                }
            },
            "values are required with In and NotIn",
        )
        for operator, values in (("In", None), ("NotIn", []), ("Exists", ["a"]), ("DoesNotExist", ["a"]))
    ],
    (
        "a protected service that is everything",
        HERE | {"guardrails": {"protectedServices": ["*"]}},
        "protectedServices",
    ),
    ("an unknown operation", HERE | {"guardrails": {"allowedActions": ["Delete"]}}, "Unsupported value"),
    ("a guardrail that a template left empty", HERE | {"guardrails": {"maxTargets": None}}, "maxTargets is null"),
    ("guardrails that a template left empty", HERE | {"guardrails": None}, "guardrails is null"),
    ("a kill switch that a template left empty", HERE | {"suspend": None}, "suspend is null"),
    (
        "a guardrail for namespaces without a selector",
        HERE | {"guardrails": {"namespaces": [{"services": ["a"]}]}},
        "selector: Required",
    ),
    ("a query without an end", HERE | {"limits": {"queryTimeout": "PT0S"}}, "must be longer than nothing"),
    ("a query that may take for ever", HERE | {"limits": {"queryTimeout": "for ever"}}, "not a duration"),
]


@pytest.mark.parametrize(("reason", "spec"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_engine_that_can_be_reached_safely_is_admitted(admission: Admission, reason: str, spec: Spec) -> None:
    assert admission.refusal("RestateEngine", spec) is None, reason


@pytest.mark.parametrize(("reason", "spec", "message"), REJECTED, ids=[row[0] for row in REJECTED])
def test_engine_that_cannot_is_refused(admission: Admission, reason: str, spec: Spec, message: str) -> None:
    refusal = admission.refusal("RestateEngine", spec)
    assert refusal is not None, reason
    assert message in refusal


def test_engine_unknown_field_survives_for_the_operator_to_refuse(admission: Admission) -> None:
    spec = HERE | {"guardrails": {"protectedService": ["payments"]}, "suspended": True}
    kept = admission.ask("RestateEngine", spec).expect(201).json()["spec"]
    assert kept["guardrails"] == {"protectedService": ["payments"]}
    assert kept["suspended"] is True


def test_engine_defaults_are_those_of_plain_fields_only(admission: Admission) -> None:
    created = admission.ask("RestateEngine", HERE).expect(201).json()
    assert created["spec"] == HERE | {"suspend": False, "redactKeys": False}
    assert created["status"] == {"observedGeneration": -1}
