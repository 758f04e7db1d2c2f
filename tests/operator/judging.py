"""Judges of our objects that nobody here wrote, in the tests of GitOps tools."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig.judges import Judges
from e2e.rig.toolchain import ROOT
from tests.operator.conftest import Object, Stage

EXAMPLE = ROOT / "docs" / "examples" / "gitops" / "shop"
NAME = "cancel-stuck-checkouts"
ACTION, ENGINE, POLICY = f"InvocationAction/{NAME}", "RestateEngine/production", "RetentionPolicy/shop"


def directory(stage: Stage, *ids: str, **engine: Any) -> list[Object]:
    """The directory that the pages show, with this stage's engine and invocations in it."""
    found = []
    for path in sorted(EXAMPLE.glob("*.yaml")):
        manifest: Object = yaml.safe_load(path.read_text())
        manifest["metadata"]["namespace"] = stage.namespace
        if manifest["kind"] == "RestateEngine":
            manifest["spec"] = {"url": stage.engine.admin_url, **engine}
        if manifest["kind"] == "InvocationAction":
            manifest["spec"]["target"] = {"ids": list(ids)}
        found.append(manifest)
    assert [one["kind"] for one in found] == ["RestateEngine", "RetentionPolicy", "InvocationAction"]
    return found


@pytest.fixture
def judges(stage: Stage, tmp_path: Path) -> Iterator[Judges]:
    """Flux's and Argo CD's judgement of the stage's namespace, as an Application or Kustomization of it."""
    with Judges(stage.control_plane.kubeconfig, stage.namespace, log=tmp_path / "judges.log") as made:
        yield made
