"""Child processes that neither outlive their parent nor get mistaken for someone else's.

Every server of the rig is a `Child`: its own process group, its output in a log
file, stopped by its own id after a check that the id still means the same
process (start time), because ids are recycled.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")

# The kernel sends the "parent died" signal when the *thread* that forked ends, so all
# children are forked by one thread that lives as long as this process does.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rig-spawner")


class StartError(RuntimeError):
    """A server did not come up; the message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, below the range for outgoing connections.

    A port from the ephemeral range could be taken by any client while its server is restarted.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(max(highest - 16384, 1024), highest)
        if port not in found and _can_bind(port):
            found.append(port)
    return found


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start_time(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None if there is none (or only a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True)
class Identity:
    """A process and the proof that its id still means it."""

    pid: int
    started: int
    boot: str

    @staticmethod
    def of(pid: int) -> "Identity | None":
        started = start_time(pid)
        return None if started is None else Identity(pid, started, _boot())

    def alive(self) -> bool:
        return self.boot == _boot() and start_time(self.pid) == self.started

    def stop(self, *, grace: float = 5.0) -> None:
        """End the process group if it is still ours: SIGTERM, then SIGKILL once the grace (seconds) is over."""
        for wanted, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, wanted)
            deadline = time.monotonic() + patience
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Child:
    """One server process.

    Dies with this one unless `detached`: a function that is told of it at once, so that it can be found again.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        detached: "Detached | None" = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._offset = sink.tell()

            leash = [] if detached else [sys.executable, "-S", "-E", str(_LEASH), str(os.getpid())]

            def fork() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    [*leash, *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                )

            self._popen = _SPAWNER.submit(fork).result()
        if detached:
            detached(self)

    @property
    def name(self) -> str:
        """As its log is called."""
        return self.log.stem

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._popen.poll()

    def identity(self) -> Identity:
        found = Identity.of(self.pid)
        if found is None:
            raise StartError(f"{self.name} is gone\n{self.tail()}")
        return found

    def signal(self, wanted: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, wanted)

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        self.stop(grace=0)

    def stop(self, *, grace: float = 5.0) -> int:
        """SIGTERM, after the grace (seconds) SIGKILL; returns the exit code."""
        if grace > 0:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # a frozen process would not see the first one
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._popen.wait(grace)
        self.signal(signal.SIGKILL)
        return self._popen.wait()

    def let_go(self) -> None:
        """Forget a detached child without waiting for it (and without a ResourceWarning about that)."""
        self._popen.returncode = 0

    def tail(self, lines: int = 25) -> str:
        """The last lines this process wrote."""
        with self.log.open("rb") as source:
            source.seek(self._offset)
            return "\n".join(source.read().decode(errors="replace").splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], timeout: float, *, interval: float = 0.05) -> None:
        """Poll until ready; StartError when the process ends first or the timeout (seconds) is over."""
        deadline = time.monotonic() + timeout
        while True:
            if not self.running:
                raise StartError(f"{self.name} ended with {self._popen.returncode}\n{self.tail()}")
            if ready():
                return
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {timeout:.0f} s\n{self.tail()}")
            time.sleep(interval)


#: told of a process that is to survive us
Detached = Callable[[Child], None]


def port_was_taken(error: StartError) -> bool:
    """Whether the log says that somebody else got the port between choosing and listening."""
    said = str(error).lower()
    return "address already in use" in said or "address in use" in said  # Go and Python; Rust
