"""Where the binaries come from."""

import threading
import time
from pathlib import Path

import pytest

from e2e.rig import toolchain


def test_toolchain_assets_of_the_user_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    found = toolchain.control_plane()
    assert {found.etcd.parent, found.apiserver.parent, found.controller_manager.parent} == {tmp_path}


def test_toolchain_unknown_engine_tells_the_known_ones() -> None:
    with pytest.raises(toolchain.MissingToolError, match=r"1\.6\.1, 1\.7\.12"):
        toolchain.engine("0.1.0")


def test_toolchain_missing_command_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(toolchain.MissingToolError, match=r"go is missing: Go 1\.26 or newer") as caught:
        toolchain.control_plane()
    assert "\n" not in str(caught.value)


def test_toolchain_two_callers_make_it_once(tmp_path: Path) -> None:
    made = []

    def make(into: Path) -> None:
        time.sleep(0.2)
        (into / "file").touch()
        made.append(into)

    callers = [threading.Thread(target=toolchain.once, args=(tmp_path / "thing", make)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(made) == 1
    assert (tmp_path / "thing" / "file").exists()


def test_toolchain_interrupted_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    def interrupted(into: Path) -> None:
        (into / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toolchain.once(tmp_path / "thing", interrupted)
    assert not (tmp_path / "thing").exists()
