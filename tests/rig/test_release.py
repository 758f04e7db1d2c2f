"""What a tag releases: a workflow that is well-formed, versions in step, a wheel that installs and runs."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from e2e.rig import toolchain
from e2e.rig.toolchain import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
RELEASE_VERSION = runpy.run_path(str(ROOT / ".ci" / "release-version"), run_name="release_version")


def test_release_workflow_is_well_formed() -> None:
    assert WORKFLOWS
    done = subprocess.run([toolchain.actionlint(), "-no-color", *WORKFLOWS], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_release_workflow_asks_for_no_right_but_where_it_is_used() -> None:
    (text,) = (path.read_text() for path in WORKFLOWS)
    assert "\npermissions: {}\n" in text
    assert "write-all" not in text


def test_release_workflow_names_the_actions_of_others_by_commit() -> None:
    """A tag can be moved to another commit, and what runs here may push images."""
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line)] == []


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "charts/restate-invocation-operator/Chart.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [0.2.0]\n\n- New.\n\n## [0.1.0] - 2026-11-30\n\n- First.\n"
    )
    return tmp_path


def released(root: Path, *arguments: str) -> str:
    said: str = RELEASE_VERSION["main"](list(arguments), root)
    return said


def test_release_version_of_package_and_chart_is_one() -> None:
    assert released(ROOT)


def test_release_version_is_the_tags_and_has_notes(sources: Path) -> None:
    assert released(sources, "v0.1.0") == "0.1.0"
    assert released(sources, "--notes", "v0.1.0") == "- First."


@pytest.mark.parametrize(
    ("file", "before", "after", "tag", "told"),
    [
        pytest.param("CHANGELOG.md", "", "", "v0.2.0", r"the tag v0\.2\.0 is not v0\.1\.0", id="another tag"),
        pytest.param("CHANGELOG.md", "", "", "0.1.0", r"the tag 0\.1\.0 is not v0\.1\.0", id="a tag without its v"),
        pytest.param("CHANGELOG.md", "[0.1.0]", "[Unreleased]", "v0.1.0", "says nothing of 0.1.0", id="no notes"),
        pytest.param(
            "charts/restate-invocation-operator/Chart.yaml",
            "appVersion: 0.1.0",
            "appVersion: 0.1.1",
            "v0.1.0",
            r"versions differ: pyproject.toml says 0\.1\.0, appVersion of Chart.yaml 0\.1\.1",
            id="a chart of another operator",
        ),
    ],
)
def test_release_version_that_differs_somewhere_is_refused(
    sources: Path, file: str, before: str, after: str, tag: str, told: str
) -> None:
    text = (sources / file).read_text()
    assert before in text
    (sources / file).write_text(text.replace(before, after))
    with pytest.raises(SystemExit, match=told):
        released(sources, tag)


def test_release_wheel_installs_and_runs(tmp_path: Path) -> None:
    """Away from the checkout, in an environment that has only its dependencies."""
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    copy = tmp_path / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "operator", copy / "operator", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("invocation_operator/")}
    package = ROOT / "operator"
    assert names >= {str(path.relative_to(package)) for path in package.rglob("*.py")}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--python",
        tmp_path / "venv/bin/python",
        wheel,
    ]
    subprocess.run(install, check=True)
    command = [tmp_path / "venv/bin/invocation-operator"]
    # Its dependencies are ours; our editable installation is not found this way.
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": os.defpath}
    version = subprocess.run(
        [*command, "version"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() == released(ROOT)
    help_ = subprocess.run(
        [*command, "run", "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--leader-elect" in help_.stdout
