"""The command line without a cluster: complaints in one line, the CRDs, the version."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from invocation_operator import __version__, cli

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        pytest.param(["run", "--metrics-port", "abc"], "--metrics-port", id="no number"),
        pytest.param(["run", "--metrics-port", "99999"], "--metrics-port", id="no port"),
        pytest.param(["run", "--health-port", "-1"], "--health-port", id="negative"),
        pytest.param(["run", "--log-level", "loud"], "--log-level", id="level"),
        pytest.param(["run", "--log-format", "xml"], "--log-format", id="format"),
        pytest.param(["run", "--namespace", "Shop"], "--namespace:", id="namespace"),
        pytest.param(["run", "--namespace", ""], "--namespace:", id="empty namespace"),
        pytest.param(
            ["run", "--trusted-engine-namespace", "a/b"], "--trusted-engine-namespace:", id="trusted namespace"
        ),
        pytest.param(["run", "--operator-namespace", "*"], "--operator-namespace", id="operator namespace"),
        pytest.param(["run", "--shutdown-seconds", "soon"], "--shutdown-seconds", id="seconds"),
        pytest.param(["run", "--metrics-prot", "1"], "--metrics-prot", id="unknown option"),
        pytest.param(["run", "--metrics", "1"], "--metrics", id="shortened option"),
        pytest.param(["run", "extra"], "extra", id="extra word"),
        pytest.param(["run", "--metrics-port"], "--metrics-port", id="value missing"),
        pytest.param(["start"], "start", id="unknown command"),
        pytest.param([], "COMMAND", id="no command"),
        pytest.param(["crds", "--write", "x", "--check", "y"], "--check", id="both"),
    ],
)
def test_cli_bad_option_is_one_line_and_code_2(args: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("invocation-operator")
    assert named in err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAMESPACES", '["a"'),
        ("NAMESPACES", ""),
        ("METRICS_PORT", "tcp://10.0.0.7:9090"),
        ("LOG_LEVEL", ""),
        ("LEASE_SECONDS", "0"),
    ],
)
def test_cli_bad_environment_is_one_line_that_names_the_variable(
    name: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INVOCATION_OPERATOR_{name}", value)
    code, _, err = run(capsys, "run")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith(f"invocation-operator: INVOCATION_OPERATOR_{name}: ")


def test_cli_long_bad_value_is_capped_and_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "run", "--log-level", "loud\n" * 1000)
    assert len(err.splitlines()) == 1
    assert len(err) < 300


def test_cli_several_bad_options_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "run", "--metrics-port", "abc", "--log-level", "loud")
    assert code == 2
    assert [line.split(": ")[1] for line in err.splitlines()] == ["--metrics-port", "--log-level"]


def test_cli_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "version") == (0, f"{__version__}\n", "")


def test_cli_help_names_every_option_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    from invocation_operator.settings import Settings

    code, out, _ = run(capsys, "run", "--help")
    assert code == 0
    singular = {
        "namespaces": "namespace",
        "trusted_engine_namespaces": "trusted-engine-namespace",
        "allowed_engine_urls": "allowed-engine-url",
    }
    for field in set(Settings.model_fields) - {"identity"}:
        assert "--" + singular.get(field, field).replace("_", "-") in out


def test_cli_crds_prints_the_committed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "crds")
    printed = {crd["metadata"]["name"]: crd for crd in yaml.safe_load_all(out)}
    committed = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml"))]
    assert code == 0
    assert printed == {crd["metadata"]["name"]: crd for crd in committed}
    assert {crd["kind"] for crd in committed} == {"CustomResourceDefinition"}


def test_cli_crds_written_then_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crds, reference = tmp_path / "deep" / "crds", tmp_path / "api.md"
    assert run(capsys, "crds", "--check", str(crds))[0] == 1
    assert run(capsys, "crds", "--write", str(crds), "--reference", str(reference))[0] == 0
    assert run(capsys, "crds", "--check", str(crds), "--reference", str(reference)) == (0, "", "")
    next(crds.iterdir()).write_text("{}\n")
    code, _, err = run(capsys, "crds", "--check", str(crds))
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "make crds" in err


def test_cli_crds_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "crds", "--write", str(tmp_path / "file" / "crds"))
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "--write" in err


def test_cli_console_script_is_the_same_as_the_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    module, _, function = project["scripts"]["invocation-operator"].partition(":")
    assert getattr(import_module(module), function) is cli.main
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    command = [sys.executable, "-m", "invocation_operator", "version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
    assert done.stdout == f"{__version__}\n"


def test_cli_version_and_crds_do_not_load_the_libraries_of_the_operator() -> None:
    code = (
        "import sys; from invocation_operator import cli\n"
        "try: cli.main(['version'])\n"
        "except SystemExit: pass\n"
        "print({'kopf', 'aiohttp', 'kubernetes'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "set()"
