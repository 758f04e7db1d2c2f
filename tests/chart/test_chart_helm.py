"""Where Helm comes from, and that it is the pinned one."""

import re
from pathlib import Path

import pytest

from e2e.rig import toolchain
from e2e.rig.helm import Helm, HelmError


def test_helm_of_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helm").touch(mode=0o755)
    monkeypatch.setenv("HELM", str(tmp_path / "helm"))
    assert toolchain.helm() == tmp_path / "helm"


def test_helm_of_the_user_missing_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM", str(tmp_path / "nothing"))
    with pytest.raises(toolchain.MissingToolError, match=r"^HELM=.*/nothing cannot be run: correct or unset it$"):
        toolchain.helm()


def test_helm_without_go_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("HELM", raising=False)
    with pytest.raises(toolchain.MissingToolError, match=r"go is missing: Go 1\.26 or newer builds Helm"):
        toolchain.helm()


def test_helm_is_built_from_the_version_that_the_module_pins() -> None:
    module = (toolchain.ROOT / "e2e" / "helm" / "go.mod").read_text()
    found = re.search(r"helm\.sh/helm/v4 v(\S+)", module)
    assert found
    assert found[1] == toolchain.HELM


def test_helm_without_a_cluster_reaches_none(helm: Helm) -> None:
    with pytest.raises(HelmError, match="cluster unreachable"):
        helm.install("op", "op-system", {"crds": {"enabled": False}})
