"""The operator as the chart runs it: with its options and exactly its service account's rights, watched by an audit."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.rig import Child, ControlPlane, Engine, operator_process
from e2e.rig.helm import Helm
from e2e.rig.process import free_ports
from e2e.rig.wire import NOBODY_THERE, exchange
from invocation_operator.settings import Settings

RELEASE, FULLNAME = "op", "op-restate-invocation-operator"
SERVED = "shop"

AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@dataclass(frozen=True)
class Audited:
    cluster: ControlPlane
    log: Path

    def refused(self, user: str) -> set[str]:
        """What `user` asked for and was not allowed to do."""
        entries = (json.loads(line) for line in self.log.read_text().splitlines())
        return {
            f"{entry['verb']} {entry['requestURI'].partition('?')[0]}"
            for entry in entries
            if entry["user"]["username"] == user and entry.get("responseStatus", {}).get("code") == 403
        }


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    work = tmp_path_factory.mktemp("audited")
    policy, log = work / "policy.json", work / "audit.log"
    policy.write_text(json.dumps(AUDIT))
    arguments = [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]
    with ControlPlane(work=work, apiserver_args=arguments) as running:
        running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVED}})
        yield Audited(running, log)


def options(cluster: ControlPlane, namespace: str) -> dict[str, str]:
    """The environment that the kubelet would give the container."""
    deployment = cluster.get("-n", namespace, f"deployment/{FULLNAME}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    downward = {"metadata.namespace": namespace}
    return {
        entry["name"]: entry["value"] if "value" in entry else downward[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in container["env"]
    }


def answers(port: int, path: str) -> bool:
    try:
        return exchange("GET", f"http://127.0.0.1:{port}{path}", timeout=2).status == 200
    except NOBODY_THERE:
        return False


def objects(engine: Engine, own: str, invocation: str) -> list[dict[str, Any]]:
    """An engine beside the operator, with a credential, that one namespace may use; two actions in that namespace."""
    version = "ops.restate.dev/v1alpha1"
    credential = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "engine", "namespace": own, "labels": {"ops.restate.dev/engine-credential": "true"}},
        "stringData": {"token": "not-looked-at"},
    }
    default = {
        "apiVersion": version,
        "kind": "RestateEngine",
        "metadata": {"name": "default", "namespace": own},
        "spec": {
            "url": engine.admin_url,
            "auth": {"bearerTokenSecret": {"name": "engine", "key": "token"}},
            "allowedNamespaces": {
                "from": "Selector",
                "selector": {"matchLabels": {"kubernetes.io/metadata.name": SERVED}},
            },
        },
    }
    actions = [
        {
            "apiVersion": version,
            "kind": "InvocationAction",
            "metadata": {"name": f"{own}-{mode.lower()}", "namespace": SERVED},
            "spec": {"action": "Cancel", "mode": mode, "target": {"ids": [invocation]}},
        }
        for mode in ("DryRun", "Execute")
    ]
    return [credential, default, *actions]


@pytest.mark.skipif(not operator_process.available(), reason="this checkout has no operator yet")
@pytest.mark.parametrize(
    ("own", "values"),
    [
        pytest.param("wide-system", {}, id="cluster"),
        pytest.param(
            "narrow-system",
            {"scope": "namespaces", "watchNamespaces": [SERVED]},
            id="namespaces",
        ),
    ],
)
def test_operator_works_with_exactly_the_charts_rights(
    own: str, values: Mapping[str, Any], audited: Audited, engine: Engine, helm_binary: Path, tmp_path: Path
) -> None:
    cluster = audited.cluster
    helm = Helm(tmp_path / "helm", cluster.kubeconfig)
    metrics, health = free_ports(2)
    helm.install(RELEASE, own, {**values, "ports": {"metrics": metrics, "health": health}}, "--create-namespace")
    try:
        environment = options(cluster, own) | {"INVOCATION_OPERATOR_BIND_ADDRESS": "127.0.0.1"}
        account = cluster.service_account(own, FULLNAME)
        operator = operator_process.start(account, log=tmp_path / "operator.log", env=environment)
        try:
            exercise(
                operator, cluster, objects(engine, own, engine.send("LabSvc", "sleep_long", 3600)), metrics, health
            )
        finally:
            code = operator.stop(grace=15)
        assert code == 0
        assert audited.refused(f"system:serviceaccount:{own}:{FULLNAME}") == set()
    finally:
        helm.run("uninstall", RELEASE, "--namespace", own, "--wait", "--timeout", "60s")
        cluster.kubectl("delete", "crd", "--all", "--wait", "--timeout=60s")


def exercise(operator: Child, cluster: ControlPlane, made: list[dict[str, Any]], metrics: int, health: int) -> None:
    operator.wait_until(lambda: answers(health, "/readyz"), 30)
    assert answers(health, "/healthz")
    assert answers(metrics, "/metrics")
    cluster.apply(made)
    for mode, phase in (("dryrun", "Planned"), ("execute", "Succeeded")):
        name = f"{made[0]['metadata']['namespace']}-{mode}"
        operator.wait_until(lambda name=name, phase=phase: phase_of(cluster, name) == phase, 15)  # type: ignore[misc]
    operator.wait_until(lambda: bool(cluster.get("events", "-n", SERVED)["items"]), 10)


def phase_of(cluster: ControlPlane, name: str) -> str:
    phase: str = cluster.get("iact", name, "-n", SERVED)["status"].get("phase", "")
    return phase


def test_operator_knows_every_option_that_the_chart_sets(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "scope": "namespaces",
        "watchNamespaces": ["shop", "123"],
        "trustedEngineNamespaces": ["platform"],
        "logging": {"format": "console", "level": "warning"},
        "crds": {"enabled": False},
    }
    (deployment,) = (obj for obj in helm.template(values) if obj["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    prefix = "INVOCATION_OPERATOR_"
    for entry in container["env"]:
        assert entry["name"].removeprefix(prefix).lower() in Settings.model_fields
        monkeypatch.setenv(entry["name"], entry.get("value", "op-system"))
    settings = Settings()
    assert settings.namespaces == ("shop", "123")
    assert settings.trusted_engine_namespaces == ("platform",)
    assert settings.operator_namespace == "op-system"
    assert (settings.log_format, settings.log_level) == ("console", "warning")
