"""One release on a real API server, from its first installation to the last trace of it."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane
from e2e.rig.helm import CHART, Helm

RELEASE, NAMESPACE = "op", "op-system"
KINDS = {file.stem.partition("_")[2] for file in (CHART / "files" / "crds").glob("*.yaml")}
CRDS = {f"customresourcedefinition.apiextensions.k8s.io/{plural}.ops.restate.dev" for plural in KINDS}


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        time.sleep(0.1)
    return found


def of_the_release(cluster: ControlPlane) -> set[str]:
    """Names of everything that carries the release's label, whatever its kind."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    selector = f"app.kubernetes.io/instance={RELEASE}"
    return set(cluster.kubectl("get", ",".join(kinds), "-A", "-l", selector, "-o", "name").stdout.split())


def older_chart(into: Path) -> Path:
    """The chart of an earlier version, whose CRDs lack a short name."""
    shutil.copytree(CHART, into)
    for file in (into / "files" / "crds").glob("*.yaml"):
        crd = yaml.safe_load(file.read_text())
        crd["spec"]["names"]["shortNames"] = []
        file.write_text(yaml.safe_dump(crd))
    return into


def short_names(cluster: ControlPlane) -> set[str]:
    return {name for crd in cluster.get("crd")["items"] for name in crd["spec"]["names"].get("shortNames", [])}


@pytest.fixture
def manifest(installer: Helm) -> Callable[[], str]:
    """The manifest that the release's notes end in."""

    def found() -> str:
        notes = installer.notes(RELEASE, NAMESPACE)
        match = re.search(r"kubectl apply -f - <<'EOF'\n(.*)\nEOF\s*\Z", notes, re.DOTALL)
        assert match, notes
        return match[1]

    return found


def test_chart_release_from_install_to_uninstall(
    bare_cluster: ControlPlane, installer: Helm, manifest: Callable[[], str], tmp_path: Path
) -> None:
    cluster = bare_cluster
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}})

    # Install an earlier version: its CRDs are served and its Pod is admitted where only restricted ones are.
    installer.run("install", RELEASE, older_chart(tmp_path / "older"), "--namespace", NAMESPACE)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *sorted(CRDS))
    (pod,) = eventually(lambda: cluster.get("pods", "-n", NAMESPACE)["items"])
    assert pod["status"]["phase"] == "Pending"
    assert pod["spec"]["serviceAccountName"] == "op-restate-invocation-operator"
    assert short_names(cluster) == set()

    # What the notes say works as it is.
    cluster.apply(manifest())

    # Upgrade: the CRDs too, and the objects are still there.
    installer.upgrade(RELEASE, NAMESPACE, {"logging": {"level": "debug"}})
    assert {"iact", "reng", "irec"} <= short_names(cluster)
    deployment = "deployment/op-restate-invocation-operator"
    upgraded = cluster.get("-n", NAMESPACE, deployment)
    (container,) = upgraded["spec"]["template"]["spec"]["containers"]
    assert {"name": "INVOCATION_OPERATOR_LOG_LEVEL", "value": "debug"} in container["env"]
    assert cluster.get("iact", "-n", NAMESPACE)["items"]

    # The same again changes nothing, so no Pod is replaced.
    installer.upgrade(RELEASE, NAMESPACE, {"logging": {"level": "debug"}})
    assert cluster.get("-n", NAMESPACE, deployment)["metadata"]["generation"] == upgraded["metadata"]["generation"]

    # Uninstall with live objects: only the CRDs stay, and with them the objects.
    installer.uninstall(RELEASE, NAMESPACE)
    eventually(lambda: of_the_release(cluster) == CRDS)
    assert cluster.get("iact", "-n", NAMESPACE)["items"]
    assert cluster.get("reng", "-n", NAMESPACE)["items"]

    # A later release takes them over; one that need not keep them takes them away, and hangs at nothing.
    installer.install(RELEASE, NAMESPACE, {"crds": {"keep": False}})
    assert cluster.get("iact", "-n", NAMESPACE)["items"]
    installer.uninstall(RELEASE, NAMESPACE)
    eventually(lambda: of_the_release(cluster) == set())
