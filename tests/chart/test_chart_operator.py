"""Releases that run: Pods with exactly the chart's service account, user, mounts, probes and options, from installation
to uninstallation, watched by the API server's audit.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from released import ON_ONE_MACHINE, WAIT, answer, until

from e2e.rig import ControlPlane, Engine, nodeagent
from e2e.rig.helm import CHART, Helm
from e2e.rig.nodeagent import NodeAgent
from e2e.rig.process import free_ports
from invocation_operator.settings import Settings

RELEASE, FULLNAME = "op", "op-restate-invocation-operator"
SERVED, PLATFORM = "shop", "platform"
ROOT = "/apis/ops.restate.dev/v1alpha1"

AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
Object = dict[str, Any]


@dataclass(frozen=True)
class Audited:
    cluster: ControlPlane
    node: NodeAgent
    log: Path

    def refused(self, user: str) -> set[str]:
        """What `user` asked for and was not allowed to do."""
        entries = (json.loads(line) for line in self.log.read_text().splitlines())
        return {
            f"{entry['verb']} {entry['requestURI'].partition('?')[0]}"
            for entry in entries
            if entry["user"]["username"] == user and entry.get("responseStatus", {}).get("code") == 403
        }

    def pods(self, namespace: str) -> list[Object]:
        items: list[Object] = self.cluster.get("pods", "-n", namespace)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def phase(self, name: str) -> str:
        reply = self.cluster.request("GET", f"{ROOT}/namespaces/{SERVED}/invocationactions/{name}")
        return str(reply.json().get("status", {}).get("phase", "")) if reply.status == 200 else ""

    def logs(self, namespace: str) -> str:
        return "\n".join(self.node.log(pod["metadata"]["name"])[-3000:] for pod in self.pods(namespace))


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    if reason := nodeagent.missing():
        pytest.skip(f"Pods cannot be run here: {reason}")
    work = tmp_path_factory.mktemp("audited")
    policy, log = work / "policy.json", work / "audit.log"
    policy.write_text(json.dumps(AUDIT))
    arguments = [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]
    with ControlPlane(work=work, apiserver_args=arguments) as running:
        running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVED}})
        with NodeAgent(running, {"restate-invocation-operator:": nodeagent.OPERATOR}, work / "node") as node:
            yield Audited(running, node, log)
        assert node.troubles == []


def action(name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": SERVED}
    return {"apiVersion": "ops.restate.dev/v1alpha1", "kind": "InvocationAction", "metadata": metadata, "spec": spec}


def engine_spec(engine: Engine) -> Object:
    """One with a credential, that one namespace may use."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": SERVED}}
    return {
        "url": engine.admin_url,
        "auth": {"bearerTokenSecret": {"name": "engine", "key": "token"}},
        "allowedNamespaces": {"from": "Selector", "selector": selector},
    }


def credential(namespace: str) -> Object:
    metadata = {"name": "engine", "namespace": namespace, "labels": {"ops.restate.dev/engine-credential": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "not-looked-at"}}


def older_chart(into: Path) -> Path:
    """The chart of an earlier version, whose CRDs know no field for reasons yet and have no short names."""
    shutil.copytree(CHART, into)
    for file in (into / "files" / "crds").glob("*.yaml"):
        crd = yaml.safe_load(file.read_text())
        crd["spec"]["names"]["shortNames"] = []
        file.write_text(yaml.safe_dump(crd))
    return into


def identity(pid: int) -> tuple[set[str], set[str]]:
    """User ids and effective capabilities of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return set(fields["Uid"].split()), {fields["CapEff"].strip(), fields["CapBnd"].strip()}


def test_release_runs_from_install_over_upgrade_and_rollback_to_uninstall(
    audited: Audited, engine: Engine, helm_binary: Path, tmp_path: Path
) -> None:
    cluster, own = audited.cluster, "wide-system"
    helm = Helm(tmp_path / "helm", cluster.kubeconfig)
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own, "labels": restricted}})
    cluster.apply(credential(own))
    metrics, health = free_ports(2)
    values = {
        "ports": {"metrics": metrics, "health": health},
        "extraEnv": ON_ONE_MACHINE,
        "defaultEngine": engine_spec(engine),
        "allowedEngineUrls": ["http://127.0.0.1:*"],
    }

    # Install an earlier version, and wait as its users would.
    chart = older_chart(tmp_path / "older")
    helm.run("install", RELEASE, chart, "--namespace", own, *WAIT, values=values)
    (pod,) = audited.pods(own)
    name = pod["metadata"]["name"]
    address, process = audited.node.address(name), audited.node.process(name)
    assert answer(address, health, "/healthz")
    assert answer(address, health, "/readyz")
    until(lambda: "invocation_operator_leader 1.0" in answer(address, metrics, "/metrics"), lambda: audited.logs(own))
    users, capabilities = identity(process.pid)
    if os.geteuid() == 0:
        assert users == {"65532"}
        assert capabilities == {"0" * 16}
    environment = Path(f"/proc/{process.pid}/environ").read_text()
    assert "KUBECONFIG" not in environment, "it logs in by its token"
    (first_engine,) = cluster.get("restateengines", "-n", own)["items"]
    assert first_engine["metadata"]["name"] == "default"

    # It works, by its token alone: reads a credential, a namespace's labels, and an engine beside it.
    ids = {"ids": [engine.send("LabSvc", "sleep_long", 3600)]}
    cluster.apply([action("look", {"action": "Cancel", "mode": "DryRun", "target": ids})])
    until(lambda: audited.phase("look") == "Planned", lambda: audited.logs(own))
    cluster.apply([action("done", {"action": "Cancel", "target": ids})])
    until(lambda: audited.phase("done") == "Succeeded", lambda: audited.logs(own))
    until(lambda: cluster.get("events", "-n", SERVED)["items"], lambda: "no Events")
    names_people(audited, own, {"ids": [engine.send("LabSvc", "sleep_long", 3600)]})

    # Upgrade in mid-run: the next Pod stands by, the old one hands over, nothing is asked twice.
    many = [engine.send("LabSvc", "echo", "x") for _ in range(60)]
    for id_ in many:
        engine.wait_status(id_, "completed", timeout=60)
    slow = {"action": "RestartAsNew", "target": {"ids": many}, "limits": {"operationsPerSecond": 1}}
    cluster.apply([action("slow", slow)])
    until(lambda: audited.phase("slow") == "Running", lambda: audited.logs(own))
    helm.upgrade(RELEASE, own, {**values, "logging": {"level": "debug"}}, *WAIT)
    until(lambda: [p["metadata"]["name"] for p in audited.pods(own)] != [name], lambda: "the old Pod is still there")
    # A minute was enough for the upgrade, on however busy a machine; the rest need not take it.
    faster = json.dumps({"spec": {"limits": {"operationsPerSecond": 100}}})
    cluster.kubectl("-n", SERVED, "patch", "invocationaction", "slow", "--type=merge", "-p", faster)
    until(lambda: audited.phase("slow") == "Succeeded", lambda: audited.logs(own))
    listed = ", ".join(f"'{id_}'" for id_ in many)
    rows = engine.sql(f"select restarted_from from sys_invocation where restarted_from in ({listed})")
    assert sorted(row["restarted_from"] for row in rows) == sorted(many)
    assert "run handed over" in audited.node.log(name)
    assert [audited.phase(n) for n in ("look", "done")] == ["Planned", "Succeeded"], "objects of the earlier version"
    (same_engine,) = cluster.get("reng", "-n", own)["items"]
    assert same_engine["metadata"]["uid"] == first_engine["metadata"]["uid"]

    # Back to the earlier version, and on, with the same engine.
    helm.run("rollback", RELEASE, "1", "--namespace", own, *WAIT)
    (pod,) = until(lambda: [p for p in audited.pods(own) if ready(p)], lambda: audited.logs(own))
    another = {"ids": [engine.send("LabSvc", "sleep_long", 3600)]}
    cluster.apply([action("again", {"action": "Cancel", "target": another})])
    until(lambda: audited.phase("again") == "Succeeded", lambda: audited.logs(own))

    # Uninstall with live objects, of which one has a finalizer, then delete the CRDs: neither hangs.
    restores = {"services": ["LabSvc"], "retention": {"journal": "1d"}, "onDelete": "Restore"}
    policy = {"apiVersion": "ops.restate.dev/v1alpha1", "kind": "RetentionPolicy", "spec": restores}
    cluster.apply([{**policy, "metadata": {"name": "restores", "namespace": SERVED}}])
    until(lambda: finalizers(cluster), lambda: audited.logs(own))
    # Looked at now: while the Pod ends its roles may be gone already.
    assert audited.refused(f"system:serviceaccount:{own}:{FULLNAME}") == set()
    helm.run("uninstall", RELEASE, "--namespace", own, *WAIT)
    until(lambda: not audited.pods(own), lambda: "the Pod is still there")
    assert cluster.get("invocationactions", "-n", SERVED)["items"]
    assert finalizers(cluster) == []
    cluster.kubectl("delete", "crd", "--all", "--wait", "--timeout=60s")


def test_release_of_two_namespaces_runs_with_two_pods_and_takes_over(
    audited: Audited, engine: Engine, helm_binary: Path, tmp_path: Path
) -> None:
    """By Roles alone, with a Pod that stands by, and beside another release for another namespace."""
    cluster, own = audited.cluster, "narrow-system"
    helm = Helm(tmp_path / "helm", cluster.kubeconfig)
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (own, PLATFORM)])
    cluster.apply(credential(own))
    metrics, health = free_ports(2)
    values = {
        "scope": "namespaces",
        "watchNamespaces": [SERVED],
        "trustedEngineNamespaces": [own, PLATFORM],
        "defaultEngine": {**engine_spec(engine), "guardrails": {"allowedActions": ["Cancel"]}},
        "replicas": 2,
        "ports": {"metrics": metrics, "health": health},
        "extraEnv": ON_ONE_MACHINE,
        "crds": {"keep": False},
    }
    helm.install(RELEASE, own, values, *WAIT)
    until(lambda: ready(cluster.get("restateengine", "default", "-n", own)), lambda: audited.logs(own))
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in audited.pods(own)}
    assert len(addresses) == 2

    def leaders() -> list[str]:
        shown = {name: answer(address, metrics, "/metrics") for name, address in addresses.items()}
        return [name for name, text in shown.items() if "invocation_operator_leader 1.0" in text]

    until(lambda: len(leaders()) == 1, lambda: audited.logs(own))
    (before,) = leaders()
    audited.node.process(before).kill()
    until(lambda: leaders() not in ([], [before]), lambda: audited.logs(own))
    ids = {"ids": [engine.send("LabSvc", "sleep_long", 3600)]}
    cluster.apply([action("narrow", {"action": "Cancel", "target": ids})])
    until(lambda: audited.phase("narrow") == "Succeeded", lambda: audited.logs(own))
    # The killed container is started again, and stands by.
    until(lambda: all(ready(pod) for pod in audited.pods(own)), lambda: audited.logs(own))
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in audited.pods(own)} == {0, 1}

    heeds_engines_outside_of_what_it_serves(audited, own, engine)
    serves_beside(audited, helm, engine)
    assert audited.refused(f"system:serviceaccount:{own}:{FULLNAME}") == set()

    # With `crds.keep` off everything goes, live objects included.
    helm.run("uninstall", RELEASE, "--namespace", own, *WAIT)
    assert not re.search(r"ops\.restate\.dev", cluster.kubectl("get", "crd", "-o", "name").stdout)


def heeds_engines_outside_of_what_it_serves(audited: Audited, own: str, engine: Engine) -> None:
    """Their guardrails and kill switches hold for whoever uses the same engine and does not refer to them, as they are
    now and for as long as they are there.
    """
    cluster = audited.cluster

    def connection(name: str, namespace: str, **spec: Any) -> Object:
        metadata, spec = {"name": name, "namespace": namespace}, {"url": engine.admin_url, **spec}
        return {"apiVersion": "ops.restate.dev/v1alpha1", "kind": "RestateEngine", "metadata": metadata, "spec": spec}

    def kill(name: str) -> Object:
        ids = {"ids": [engine.send("LabSvc", "sleep_long", 3600)]}
        return action(name, {"engineRef": {"name": "local"}, "action": "Kill", "target": ids})

    def shown(name: str, namespace: str) -> Object:
        """The condition of an engine, once it speaks of the present specification."""
        found = cluster.get("restateengine", name, "-n", namespace)
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
        now = conditions.get("Ready", {})
        return now if now.get("observedGeneration") == found["metadata"]["generation"] else {}

    cluster.apply([connection("local", SERVED), kill("not-allowed")])
    until(lambda: audited.phase("not-allowed") == "Refused", lambda: audited.logs(own))
    # Those of its own namespace are labels that the operator may not read.
    here = {"selector": {"matchLabels": {"kubernetes.io/metadata.name": SERVED}}, "actions": ["Cancel", "Kill"]}
    patch = json.dumps({"spec": {"guardrails": {"allowedActions": ["Cancel", "Kill"], "namespaces": [here]}}})
    cluster.kubectl("-n", own, "patch", "restateengine", "default", "--type=merge", "-p", patch)
    until(lambda: shown("default", own).get("reason") == "Reachable", lambda: audited.logs(own))
    cluster.apply([connection("stop", PLATFORM, suspend=True)])
    until(lambda: shown("stop", PLATFORM).get("reason") == "Suspended", lambda: audited.logs(own))
    cluster.apply([kill("allowed")])

    def waits_for() -> set[str]:
        status = cluster.get("invocationaction", "allowed", "-n", SERVED).get("status", {})
        return {condition["reason"] for condition in status.get("conditions", ())}

    until(lambda: "EngineSuspended" in waits_for(), lambda: audited.logs(own))
    cluster.kubectl("-n", PLATFORM, "delete", "restateengine", "stop")
    until(lambda: audited.phase("allowed") == "Succeeded", lambda: audited.logs(own))
    told = {event["involvedObject"]["name"] for event in cluster.get("events", "-n", PLATFORM)["items"]}
    assert told == {"stop"}


def serves_beside(audited: Audited, helm: Helm, engine: Engine) -> None:
    """Another release of the same name serves a namespace of its own, and neither works for the other's."""
    cluster, own, served = audited.cluster, "beside-system", "bank"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": served}})
    metrics, health = free_ports(2)
    values = {
        "scope": "namespaces",
        "watchNamespaces": [served],
        "ports": {"metrics": metrics, "health": health},
        "extraEnv": ON_ONE_MACHINE,
        "crds": {"enabled": False},
    }
    helm.install(RELEASE, own, values, "--create-namespace", *WAIT)
    manifest = action("beside", {"action": "Cancel", "target": {"ids": [engine.send("LabSvc", "sleep_long", 3600)]}})
    manifest["metadata"]["namespace"] = served
    here = {"apiVersion": manifest["apiVersion"], "kind": "RestateEngine", "spec": {"url": engine.admin_url}}
    cluster.apply([{**here, "metadata": {"name": "default", "namespace": served}}, manifest])
    path = f"{ROOT}/namespaces/{served}/invocationactions/beside"
    status = until(
        lambda: (found := cluster.request("GET", path).json().get("status", {})).get("phase") == "Succeeded" and found,
        lambda: audited.logs(own),
    )
    (record,) = cluster.get("invocationrecords", "-n", own)["items"]
    assert record["metadata"]["name"] == status["record"]
    elsewhere = cluster.get("invocationrecords", "-n", "narrow-system")["items"]
    assert {found["spec"]["source"]["namespace"] for found in elsewhere} == {SERVED}
    assert audited.refused(f"system:serviceaccount:{own}:{FULLNAME}") == set()
    helm.run("uninstall", RELEASE, "--namespace", own, *WAIT)


def names_people(audited: Audited, own: str, target: Object) -> None:
    """Who asked and who approved is in the status and in the record, because the chart's policies vouch for it."""
    cluster, name = audited.cluster, "two-people"
    assert cluster.get("invocationaction", "done", "-n", SERVED)["status"]["requestedBy"] == "admin"
    cluster.apply([action(name, {"action": "Cancel", "mode": "Approve", "target": target})])
    until(lambda: audited.phase(name) == "AwaitingApproval", lambda: audited.logs(own))
    status = cluster.get("invocationaction", name, "-n", SERVED)["status"]
    assert status["requestedBy"] == "admin"
    patch = json.dumps({"spec": {"approvedPlan": status["plan"]["hash"]}})
    command = ("-n", SERVED, "patch", "invocationaction", name, "--type=merge", "-p", patch)
    refused = cluster.kubectl(*command, check=False)
    assert "admin asked for this, and a plan is approved by another user" in refused.stderr
    second = cluster.credentials("second-pair-of-eyes", ["system:masters"])
    cluster.kubectl(*command, kubeconfig=second)
    until(lambda: audited.phase(name) == "Succeeded", lambda: audited.logs(own))
    status = cluster.get("invocationaction", name, "-n", SERVED)["status"]
    assert (status["requestedBy"], status["approval"]["by"]) == ("admin", "second-pair-of-eyes")
    record = cluster.get("invocationrecord", status["record"], "-n", own)["spec"]
    assert (record["requestedBy"], record["approval"]["by"]) == ("admin", "second-pair-of-eyes")


def finalizers(cluster: ControlPlane) -> list[str]:
    found: list[str] = cluster.get("retentionpolicies", "restores", "-n", SERVED)["metadata"].get("finalizers", [])
    return found


def ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_operator_knows_every_option_that_the_chart_sets(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "scope": "namespaces",
        "watchNamespaces": ["shop", "123"],
        "trustedEngineNamespaces": ["platform"],
        "logging": {"format": "console", "level": "warning"},
        "allowedEngineUrls": ["http://*.svc.cluster.local:9070", "https://engine.example"],
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
    assert settings.allowed_engine_urls == ("http://*.svc.cluster.local:9070", "https://engine.example")
    assert settings.operator_namespace == "op-system"
    assert (settings.log_format, settings.log_level) == ("console", "warning")
