"""An operator with settings of its own: engines by Service, cluster and cloud name, trusted namespaces, metrics.

The names that Kubernetes' DNS would resolve are resolved by a table that is put under the operator's feet (a
``sitecustomize`` in front of the real resolver); everything else is real: the requests go to the host that the
RestateEngine implies, with the certificate of that host.
"""

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.rig import ControlPlane, Engine, operator_process, toolchain
from e2e.rig.process import Child, free_ports
from e2e.rig.wire import exchange
from tests.operator.conftest import ROOT, Stage
from tests.operator.fronts import AUTH, Fronted, fronted, message_of

OPERATOR_NAMESPACE = "operator-system"
RESOLVER = """
import json, os, socket

_real = socket.getaddrinfo

def getaddrinfo(host, port, *args, **kwargs):
    with open(os.environ["NAMES"]) as file:
        host, port = json.load(file).get(f"{host}:{port}", (host, port))
    return _real(host, port, *args, **kwargs)

socket.getaddrinfo = getaddrinfo
"""
CLOUD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: restatecloudenvironments.restate.dev}
spec:
  group: restate.dev
  scope: Cluster
  names: {kind: RestateCloudEnvironment, plural: restatecloudenvironments, singular: restatecloudenvironment}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@dataclass
class Outpost:
    """A control plane and the operator on it, with the names that this operator knows."""

    control_plane: ControlPlane
    scratch: Path
    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    metrics_port: int = 0

    @property
    def log(self) -> Path:
        """What the operator says."""
        return self.scratch / "operator.log"

    @contextmanager
    def operator(self) -> Iterator[Child]:
        """The operator, until the block ends."""
        (self.metrics_port,) = free_ports(1)
        options = ["--operator-namespace", OPERATOR_NAMESPACE, "--bind-address", "127.0.0.1", "--health-port", "0"]
        options += ["--metrics-port", str(self.metrics_port), "--log-format", "json"]
        options += ["--cluster-domain", "k8s.example", "--trusted-engine-namespace", OPERATOR_NAMESPACE]
        environment = {
            "PYTHONPATH": f"{self.scratch}:{toolchain.ROOT / 'operator'}",
            "NAMES": str(self.scratch / "names.json"),
        }
        self.log.write_text("")
        kubeconfig = self.control_plane.kubeconfig
        child = operator_process.start(kubeconfig, log=self.log, args=("run", *options), env=environment)
        try:
            child.wait_until(lambda: '"event": "ready"' in self.log.read_text(), 60)
            yield child
        finally:
            if child.running:
                child.stop()

    def know(self, host: str, port: int, url: str) -> None:
        """Let the operator resolve a name to the address of ``url``."""
        parts = urlsplit(url)
        assert parts.port is not None
        self.names[f"{host}:{port}"] = ("127.0.0.1", parts.port)
        (self.scratch / "names.json").write_text(json.dumps(self.names))

    def namespace(self, name: str) -> str:
        """Create a namespace."""
        self.control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).expect(201, 409)
        return name

    def metrics(self) -> dict[str, float]:
        """What the operator measures now, by series."""
        text = exchange("GET", f"http://127.0.0.1:{self.metrics_port}/metrics").expect(200).body.decode()
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {series: float(value) for series, _, value in lines}


@pytest.fixture(scope="module")
def outpost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outpost]:
    """Started once for this file."""
    scratch = tmp_path_factory.mktemp("outpost")
    (scratch / "sitecustomize.py").write_text(textwrap.dedent(RESOLVER))
    (scratch / "names.json").write_text("{}")
    with ControlPlane() as control_plane:
        control_plane.apply_crds(toolchain.ROOT / "crds")
        made = Outpost(control_plane, scratch)
        made.namespace(OPERATOR_NAMESPACE)
        yield made


@pytest.fixture(scope="module")
def running(outpost: Outpost) -> Iterator[Outpost]:
    """With the operator running."""
    with outpost.operator():
        yield outpost


def stage_in(outpost: Outpost, engine: Engine, namespace: str) -> Stage:
    return Stage(outpost.control_plane, engine, outpost.namespace(namespace), outpost.log)


def ends_well(it: Fronted, engine: str) -> None:
    """Cancel an invocation through a RestateEngine."""
    id_ = it.stage.send("sleep_long", 3600.0, status="suspended")
    it.cancel(id_, f"act-{engine}", engine)
    done = it.stage.ended(f"act-{engine}", timeout=60)
    assert done["status"]["phase"] == "Succeeded", message_of(done)


def test_engines_after_a_restart_hold_before_their_own_probe(outpost: Outpost, engine: Engine) -> None:
    """The strict one has no token, so that nothing but its specification can be known of it. First in this file: the
    operator that the others share is not running yet.
    """
    stage = stage_in(outpost, engine, "restart")
    ids = [stage.send("sleep_long", 3600.0, status="suspended") for _ in range(2)]
    with fronted(stage) as it:
        with outpost.operator():
            it.define("loose")
            strict = it.front.url.replace("127.0.0.1", "localhost") + "/"
            it.define("strict", url=strict, auth=AUTH, guardrails={"maxTargets": 1})
            it.engine_says("SecretNotFound", name="strict")
        it.act("many", "Cancel", {"ids": ids}, "loose")
        with outpost.operator():
            refused = stage.ended("many", timeout=60)
            assert refused["status"]["phase"] == "Refused"
            assert "maxTargets (1)" in message_of(refused)
        assert not it.front.writes()


def test_engine_by_the_name_of_its_restate_cluster(running: Outpost, engine: Engine) -> None:
    with fronted(stage_in(running, engine, "by-cluster")) as it:
        running.know("restate.prod.svc.k8s.example", 9070, it.front.url)
        it.define("prod", cluster="prod")
        found = it.engine_says("Reachable", name="prod")
        assert found["status"]["url"] == "http://restate.prod.svc.k8s.example:9070"
        ends_well(it, "prod")


def test_engine_by_its_service_with_a_token_and_with_tls(running: Outpost, engine: Engine) -> None:
    stage = stage_in(running, engine, "by-service")
    with fronted(stage, token="s3cr3t") as plain, fronted(stage, tls=True) as secure:
        running.know("restate.by-service.svc.k8s.example", 9070, plain.front.url)
        running.know("admin.data.svc.k8s.example", 8443, secure.front.url)
        plain.secret(token="s3cr3t")
        plain.define("plain", service={"name": "restate"}, auth=AUTH)
        secure.secret("ca", ca_crt=secure.front.ca_pem)
        secure.front.serve_certificate_of_another_host("admin.data.svc.k8s.example")
        service = {"name": "admin", "namespace": "data", "port": 8443}
        secure.define("secure", service=service, tls={"caSecret": {"name": "ca", "key": "ca.crt"}})
        found = secure.engine_says("Reachable", name="secure")
        assert found["status"]["url"] == "https://admin.data.svc.k8s.example:8443"
        plain.engine_says("Reachable", name="plain")
        ends_well(plain, "plain")
        ends_well(secure, "secure")


def test_engine_of_the_cloud(running: Outpost, engine: Engine) -> None:
    stage = stage_in(running, engine, "by-cloud")
    host = "201abc.env.us.restate.cloud"
    with fronted(stage, tls=True, token="s3cr3t") as it:
        running.know(host, 9070, it.front.url)
        it.secret(token="s3cr3t")
        it.secret("ca", ca_crt=it.front.ca_pem)
        it.front.serve_certificate_of_another_host(host)
        it.define("prod", cloud="prod", auth=AUTH, tls={"caSecret": {"name": "ca", "key": "ca.crt"}})
        # Neither the kind nor the object: people see the same, and are told the name.
        assert "RestateCloudEnvironment prod" in message_of(it.engine_says("CloudEnvironmentNotFound", name="prod"))
        running.control_plane.apply(CLOUD)
        running.control_plane.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")
        environment(running, environmentId="env_201abc", region="us/../evil.example")
        found = it.engine_says("CloudEnvironmentInvalid", name="prod")
        assert "region" in message_of(found)
        environment(running, environmentId="env_201abc", region="us")
        found = it.engine_says("Reachable", name="prod")
        assert found["status"]["url"] == f"https://{host}:9070"
        ends_well(it, "prod")


CRD = "restatecloudenvironments.restate.dev"


def environment(outpost: Outpost, **spec: Any) -> None:
    body = {
        "apiVersion": "restate.dev/v1beta1",
        "kind": "RestateCloudEnvironment",
        "metadata": {"name": "prod"},
        "spec": spec,
    }
    outpost.control_plane.apply(body)


def test_default_engine_of_the_operators_namespace_is_meant_by_all_that_it_allows(
    running: Outpost, engine: Engine
) -> None:
    stage = stage_in(running, engine, "by-default")
    with fronted(stage) as it:
        it.define("default", namespace=OPERATOR_NAMESPACE)
        manifest = stage.manifest("act", "Cancel", {"ids": [stage.send("sleep_long", 3600.0, status="suspended")]})
        del manifest["spec"]["engineRef"]
        stage.create(manifest)
        assert f"{OPERATOR_NAMESPACE}/default" in it.waits("EngineNotAllowed")
        path = f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/restateengines/default"
        it.api.request("PATCH", path, {"spec": {"allowedNamespaces": {"from": "All"}}}).expect(200)
        done = stage.ended("act", timeout=60)
        assert done["status"]["phase"] == "Succeeded"
        assert done["status"]["engine"]["namespace"] == OPERATOR_NAMESPACE


def test_engine_of_a_namespace_that_is_not_trusted_serves_that_namespace_only(running: Outpost, engine: Engine) -> None:
    stage = stage_in(running, engine, "untrusted")
    running.namespace("team")
    with fronted(stage) as it:
        it.define("engine", namespace="team", allowedNamespaces={"from": "All"})
        id_ = stage.send("sleep_long", 3600.0, status="suspended")
        manifest = stage.manifest("act", "Cancel", {"ids": [id_]})
        manifest["spec"]["engineRef"] = {"name": "engine", "namespace": "team"}
        stage.create(manifest)
        assert "trustedEngineNamespaces" in it.waits("EngineNotAllowed")
        assert stage.status_of(id_) == "suspended"
        it.define("own")
        ends_well(it, "own")


def test_engine_metrics_tell_whether_it_is_up_and_go_with_it(running: Outpost, engine: Engine) -> None:
    stage = stage_in(running, engine, "metrics")
    stage.send("sleep_long", 3600.0, status="suspended")
    labels = 'engine="front",namespace="metrics"'
    up = f"invocation_operator_engine_up{{{labels}}}"
    suspended = f'invocation_operator_engine_invocations{{{labels},status="Suspended"}}'
    with fronted(stage) as it:
        it.define()
        it.engine_says("Reachable")
        found = running.metrics()
        assert found[up] == 1.0
        assert found[suspended] >= 1.0
        it.front.stop()
        it.engine_says("Unreachable")
        assert running.metrics()[up] == 0.0
        stage.delete("front", "restateengines")
        stage.until(lambda: not any(labels in series for series in running.metrics()), 60)
