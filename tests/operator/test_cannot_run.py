"""The operator's process where it cannot run: one clear line, exit code 1, no trace, and never for long.

Times are bounds of the rig's patience, not assertions; the operator's own limit on a request is 15 seconds.
"""

import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane
from e2e.rig.process import free_ports
from e2e.rig.toolchain import ROOT

PATIENCE = 120


def operator(
    *args: str | Path, env: Mapping[str, str] | None = None, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the operator to its end; what it says goes to pipes."""
    inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    environment = {**inherited, "PYTHONPATH": str(ROOT / "operator"), **(env or {})}
    if home is not None:
        environment["HOME"] = str(home)
    quiet = ["--metrics-port", "0", "--health-port", "0", "--bind-address", "127.0.0.1"]
    command = [sys.executable, "-m", "invocation_operator", "run", *quiet, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a process that could not run, in the console's format."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("invocation-operator: ")
    return line


def kubeconfig(path: Path, server: str, **user: Any) -> Path:
    """Write a kubeconfig for a server that need not exist."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def with_token(control_plane: ControlPlane, path: Path, token: str) -> Path:
    """The control plane's kubeconfig with another token."""
    document = yaml.safe_load(control_plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "not a kubeconfig", id="empty"),
        pytest.param(b"garbage", "not a kubeconfig", id="a word"),
        pytest.param(b"- a\n- b\n", "not a kubeconfig", id="a list"),
        pytest.param(b"a: [b", "expected", id="not YAML"),
        pytest.param(b"\xd4\xff\x00\x01", "not a kubeconfig", id="binary"),
        pytest.param(b"{}", "current-context", id="nothing in it"),
        pytest.param(b"current-context: x", "contexts", id="no contexts"),
    ],
)
def test_run_kubeconfig_that_is_none_is_one_line(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_bytes(content)
    line = only_line(operator("--kubeconfig", file, "--log-format", "console"))
    assert f"--kubeconfig {file}" in line
    assert said in line


def test_run_kubeconfig_that_is_a_directory_is_one_line(tmp_path: Path) -> None:
    assert "Is a directory" in only_line(operator("--kubeconfig", tmp_path, "--log-format", "console"))


def test_run_without_any_configuration_names_all_three_ways(tmp_path: Path) -> None:
    line = only_line(operator("--log-format", "console", home=tmp_path))
    for way in ("service account", "KUBECONFIG", "--kubeconfig"):
        assert way in line


def test_run_api_server_that_does_not_listen_is_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{port}", token="not-to-be-seen")
    line = only_line(operator("--kubeconfig", config, "--log-format", "console"))
    assert f"cannot reach the API server https://127.0.0.1:{port}" in line
    assert "not-to-be-seen" not in line


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never says a word, as a firewall may make it look."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def test_run_api_server_that_never_answers_is_given_up(silent: int, tmp_path: Path) -> None:
    config = kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{silent}")
    line = only_line(operator("--kubeconfig", config, "--log-format", "console"))
    assert f"cannot reach the API server https://127.0.0.1:{silent}" in line


def test_run_api_server_of_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path / "kubeconfig", "https://nowhere.invalid:6443")
    assert "nowhere.invalid" in only_line(operator("--kubeconfig", config, "--log-format", "console"))


def test_run_certificate_of_another_authority_is_one_line(control_plane: ControlPlane, tmp_path: Path) -> None:
    document = yaml.safe_load(control_plane.kubeconfig.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    line = only_line(operator("--kubeconfig", tmp_path / "kubeconfig", "--log-format", "console"))
    assert "certificate verify failed" in line


def test_run_token_that_is_refused_is_one_line_without_the_token(control_plane: ControlPlane, tmp_path: Path) -> None:
    config = with_token(control_plane, tmp_path / "kubeconfig", "not-the-right-one")
    line = only_line(operator("--kubeconfig", config, "--log-format", "console"))
    assert f"the API server {control_plane.url} refuses the operator's credentials" in line
    assert "401" in line
    assert "not-the-right-one" not in line


def test_run_rights_that_are_too_small_say_which(control_plane: ControlPlane, namespace: str) -> None:
    config = control_plane.credentials("nobody-special")
    for scope in ([], ["--namespace", namespace]):
        done = operator("--kubeconfig", config, *scope, "--log-format", "json")
        assert done.returncode == 1
        last = [json.loads(line) for line in done.stderr.splitlines()][-1]
        assert last["level"] == "critical"
        assert "role is too small" in last["error"]
        assert "restateengines" in last["error"]


@pytest.mark.parametrize("option", ["--metrics-port", "--health-port"])
def test_run_port_in_use_is_named(option: str, control_plane: ControlPlane, silent: int) -> None:
    done = operator("--kubeconfig", control_plane.kubeconfig, option, str(silent), "--log-format", "json")
    assert done.returncode == 1
    last = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert last["error"] == f"{option}: cannot listen on 127.0.0.1 port {silent}: Address already in use"
    assert "exception" not in last


def test_run_address_that_is_none_of_ours_is_named(control_plane: ControlPlane) -> None:
    (port,) = free_ports(1)
    args = ["--bind-address", "192.0.2.7", "--health-port", str(port), "--log-format", "json"]
    done = operator("--kubeconfig", control_plane.kubeconfig, *args)
    assert done.returncode == 1
    assert f"--health-port: cannot listen on 192.0.2.7 port {port}" in done.stderr.splitlines()[-1]


def test_run_not_on_a_terminal_logs_json(tmp_path: Path) -> None:
    done = operator("--kubeconfig", tmp_path / "missing")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["level"] == "critical"


def test_run_on_a_terminal_logs_for_people(control_plane: ControlPlane) -> None:
    """A wrong role lets it come as far as its first log lines."""
    config = control_plane.credentials("nobody-special")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "invocation_operator", "run", "--kubeconfig", str(config)]
    command += ["--metrics-port", "0", "--health-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    child = subprocess.Popen(command, stderr=slave, stdout=slave, stdin=subprocess.DEVNULL, env=environment)
    os.close(slave)
    said = b""
    with os.fdopen(master, "rb", buffering=0) as screen:
        try:
            while chunk := screen.read(4096):
                said += chunk
        except OSError:
            pass  # the other side has closed: the process ended
    assert child.wait(PATIENCE) == 1
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()
    assert "starting" in lines[0]
    assert not lines[0].startswith("{")
    assert lines[-1].startswith("invocation-operator: the operator's role is too small")
