"""Children die with their parent, and only a process that is still the same one is stopped."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.rig import Child, StartError
from e2e.rig.process import Identity, free_ports, start_time
from e2e.rig.toolchain import ROOT


def test_child_of_a_killed_parent_does_not_survive(tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from e2e.rig.process import Child
print(Child(["sleep", "60"], log=pathlib.Path({str(tmp_path)!r}) / "sleep.log").pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert start_time(pid) is not None
        parent.kill()
    deadline = time.monotonic() + 5
    while start_time(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert start_time(pid) is None


def test_child_detached_survives_its_parent_and_is_stopped_by_its_identity(tmp_path: Path) -> None:
    program = f"""
import pathlib
from e2e.rig.process import Child
log = pathlib.Path({str(tmp_path)!r}) / "sleep.log"
Child(["sleep", "60"], log=log, detached=lambda child: print(child.pid)).let_go()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    identity = Identity.of(int(done.stdout))
    assert identity
    assert identity.alive()
    identity.stop()
    assert not identity.alive()


def test_identity_of_a_recycled_id_is_left_alone(tmp_path: Path) -> None:
    child = Child(["sleep", "60"], log=tmp_path / "sleep.log")
    earlier = replace(child.identity(), started=child.identity().started - 1)
    assert not earlier.alive()
    earlier.stop()
    assert child.running
    child.kill()
    assert not child.running


def test_child_paused_still_stops(tmp_path: Path) -> None:
    child = Child(["sleep", "60"], log=tmp_path / "sleep.log")
    child.pause()
    begun = time.monotonic()
    child.stop()
    assert time.monotonic() - begun < 4


def test_child_that_ends_early_shows_the_last_lines_of_its_log(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "echo wrong setting; exit 3"], log=tmp_path / "sh.log")
    with pytest.raises(StartError, match=r"sh ended with 3\nwrong setting"):
        child.wait_until(lambda: False, 5)


def test_free_ports_are_different_and_outside_the_range_of_clients() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest
