"""The image: built from the Dockerfile, looked into, and run as the chart says by a real container runtime."""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from released import ON_ONE_MACHINE, WAIT, answer, until

from e2e.rig import ControlPlane, Engine, image, nodeagent
from e2e.rig.helm import Helm
from e2e.rig.nodeagent import NodeAgent
from e2e.rig.process import free_ports
from e2e.rig.toolchain import ROOT

MOST_BYTES = 60e6
RELEASE, SERVED, OWN = "op", "shop", "image-system"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OPERATOR = "opt/operator/lib/python3.13/site-packages/invocation_operator"


@dataclass(frozen=True)
class Unpacked:
    layout: image.Layout
    root: Path

    def files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.root):
            yield from (Path(folder) / name for name in names)


@pytest.fixture(scope="module")
def built(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[image.Image]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        if reason := image.missing():
            pytest.skip(reason)
        yield image.build()


@pytest.fixture(scope="module")
def unpacked(built: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    work = tmp_path_factory.mktemp("image")
    work.chmod(0o755)
    layout = built.push(work / "layout")
    return Unpacked(layout, layout.unpack(work / "root"))


def test_image_says_how_it_is_run_and_what_it_is(unpacked: Unpacked) -> None:
    config = unpacked.layout.config["config"]
    assert config["User"] == "65532:65532", "a number that is not root's"
    assert (config["Entrypoint"], config["Cmd"]) == (["/opt/operator/bin/invocation-operator"], ["run"])
    assert {"HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == (
        "restate-invocation-operator",
        VERSION,
        "Apache-2.0",
    )


def test_image_is_small(unpacked: Unpacked) -> None:
    print(f"{unpacked.layout.compressed_bytes / 1e6:.1f} MB compressed")
    assert unpacked.layout.compressed_bytes < MOST_BYTES


def test_image_has_no_shell_no_package_manager_and_nothing_to_gain_rights_by(unpacked: Unpacked) -> None:
    folders = {unpacked.root / "usr/bin", unpacked.root / "usr/sbin", unpacked.root / "opt/operator/bin"}
    programs = {path.name for path in unpacked.files() if path.parent in folders}
    assert programs == {"python3.13", "python3", "python", "invocation-operator"}
    modules = {path.name for path in (unpacked.root / OPERATOR).parent.iterdir()}
    assert not {"pip", "setuptools", "ensurepip"} & modules
    found = {path: path.lstat() for path in unpacked.root.rglob("*")}
    assert {(stat.st_uid, stat.st_gid) for stat in found.values()} == {(0, 0)}, "the operator owns no file"
    assert not [path for path, stat in found.items() if stat.st_mode & 0o6000 and path.is_file()]
    writable = [p for p, stat in found.items() if stat.st_mode & 0o002 and not p.is_symlink()]
    assert writable == [unpacked.root / "tmp"]


def test_image_holds_the_operator_of_this_checkout_ready_to_run(unpacked: Unpacked) -> None:
    def sources(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}

    ours = sources(ROOT / "operator" / "invocation_operator")
    assert sources(unpacked.root / OPERATOR) == ours
    for package in (unpacked.root / "opt/operator/lib", unpacked.root / "usr/lib/python3.13"):
        raw = [p for p in package.rglob("*.py") if not list((p.parent / "__pycache__").glob(f"{p.stem}.*.pyc"))]
        assert raw == [], "nothing is compiled at each start"
        modes = {p.read_bytes()[4:8] for p in package.rglob("*.pyc")}
        assert modes == {b"\1\0\0\0"}, "by hash and unchecked: times in the image are all the same"


def test_image_tells_scanners_what_is_in_it(unpacked: Unpacked) -> None:
    packages = {path.name: path.read_text() for path in (unpacked.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"python3.13-minimal", "libc6", "libssl3t64", "ca-certificates", "base-files"} <= packages.keys()
    assert all("\nVersion: " in text for text in packages.values())
    assert "debian" in (unpacked.root / "etc/os-release").read_text()
    pinned = (ROOT / "requirements" / "operator.txt").read_text().count("==")
    assert len(list((unpacked.root / OPERATOR).parent.glob("*.dist-info"))) > pinned / 2


def test_image_built_twice_from_nothing_is_the_same(built: image.Image, pytestconfig: pytest.Config) -> None:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        first, second = image.built_twice()
    assert first == second


def test_image_runs_as_the_chart_says(
    bare_cluster: ControlPlane, installer: Helm, unpacked: Unpacked, engine: Engine, tmp_path: Path
) -> None:
    """Under runc: as its user, without capabilities, nothing to write to but /tmp, within the chart's memory."""
    cluster = bare_cluster
    config = unpacked.layout.config["config"]
    env = dict(entry.split("=", 1) for entry in config["Env"])
    ours = nodeagent.Image(config["Entrypoint"], env, unpacked.root)
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([namespace(OWN, restricted), namespace(SERVED, {})])
    metrics, health = free_ports(2)
    open_to_all = {"url": engine.admin_url, "allowedNamespaces": {"from": "All"}}
    values = {
        "ports": {"metrics": metrics, "health": health},
        "extraEnv": ON_ONE_MACHINE,
        "defaultEngine": open_to_all,
        "image": {"repository": "registry.example/operator"},
    }
    with NodeAgent(cluster, {f"registry.example/operator:{VERSION}": ours}, tmp_path / "node") as node:
        installer.install(RELEASE, OWN, values, *WAIT)
        (pod,) = cluster.get("pods", "-n", OWN)["items"]
        name = pod["metadata"]["name"]

        def logs() -> str:
            return node.log(name)[-3000:]

        address = node.address(name)
        assert answer(address, health, "/healthz")
        assert answer(address, health, "/readyz")
        until(lambda: "invocation_operator_leader 1.0" in answer(address, metrics, "/metrics"), logs)

        # One action, seen in the engine.
        id_ = engine.send("LabSvc", "sleep_long", 3600)
        cancel = {"action": "Cancel", "target": {"ids": [id_]}}
        manifest = {"apiVersion": "ops.restate.dev/v1alpha1", "kind": "InvocationAction", "spec": cancel}
        cluster.apply({**manifest, "metadata": {"name": "from-the-image", "namespace": SERVED}})
        path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{SERVED}/invocationactions/from-the-image"
        until(lambda: cluster.request("GET", path).json().get("status", {}).get("phase") == "Succeeded", logs)
        engine.wait_status(id_, "completed", "absent")

        inside = innermost(node.process(name).pid)
        assert confinement(inside) == {
            "Uid": "65532 65532 65532 65532",
            "Gid": "65532 65532 65532 65532",
            "CapEff": "0000000000000000",
            "CapBnd": "0000000000000000",
            "NoNewPrivs": "1",
            "Seccomp": "2",
        }
        assert writable_mounts(inside) == {"/dev", "/dev/shm", "/tmp"}

        # Asked to end it ends by itself, and the Job that runs the same image before lets the uninstall go on.
        installer.run("uninstall", RELEASE, "--namespace", OWN, *WAIT)
        until(lambda: not cluster.get("pods", "-n", OWN)["items"], logs)
        assert node.troubles == []


def namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def innermost(pid: int) -> int:
    """The process of the container: below the runtime that started it, one of whose threads is its parent."""
    while children := [
        c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()
    ]:
        pid = int(children[0])
    return pid


def confinement(pid: int) -> dict[str, str]:
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    told = {name: " ".join(value.split()) for name, value in lines}
    return {name: told[name] for name in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}


def writable_mounts(pid: int) -> set[str]:
    fields = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {entry[4] for entry in fields if "rw" in entry[5].split(",") and not entry[4].startswith("/proc")}
