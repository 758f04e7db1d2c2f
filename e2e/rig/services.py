"""The sample services of `e2e/services` as a process of their own, so that a test can make them unreachable."""

import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.rig.process import Child, Detached, StartError, free_ports, port_was_taken
from e2e.rig.toolchain import ROOT
from e2e.rig.wire import NOBODY_THERE, exchange


class ServicesProcess:
    """`lab` (every status), `shop` (the story of the demo) or `bulk` (many at once), on one port for its whole life.

    `variant` changes what `LabSvc/variant` and `steps` answer, to tell deployments apart; `prefix` goes
    before all service names; `retention` is "service" or "handler"; `protocol` "bidi" or "request_response".
    """

    def __init__(
        self,
        application: str = "lab",
        *,
        variant: str = "v1",
        prefix: str = "",
        retention: str = "",
        protocol: str = "bidi",
        inactivity_ms: int = 500,
        work: Path | None = None,
        detached: Detached | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self._temporary = None if work else tempfile.TemporaryDirectory(prefix="services-")
        self.work = work or Path(self._temporary.name if self._temporary else "")
        self._name = secrets.token_hex(8)
        self._env = {
            "RIG_NAME": self._name,
            "LAB_VARIANT": variant,
            "LAB_PREFIX": prefix,
            "LAB_RETENTION": retention,
            "LAB_PROTOCOL": protocol,
            "LAB_INACT_MS": str(inactivity_ms),
            **(env or {}),
        }
        self._detached = detached
        self._port = 0
        self._child: Child | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def process(self) -> Child:
        if self._child is None:
            raise StartError(f"{self.application} is not running")
        return self._child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Start, on the port it had before if it had one."""
        for last in (False, False, True):
            known = self._port != 0
            if not known:
                (self._port,) = free_ports(1)
            try:
                self._start()
                break
            except StartError as error:
                self.kill()
                if known or last or not port_was_taken(error):
                    raise
                self._port = 0
        return self

    def stop(self) -> None:
        """End it; the port refuses connections until `start()`."""
        if self._child:
            self._child.stop(grace=3)
            self._child = None

    def kill(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None

    def restart(self, *, downtime: float = 0.0) -> None:
        self.kill()
        time.sleep(downtime)
        self.start()

    def close(self) -> None:
        self.kill()
        if self._temporary:
            self._temporary.cleanup()

    def world(self, **changes: Any) -> dict[str, Any]:
        """Change switches of the outside world (none: only look); all of them as they are now."""
        method = "PUT" if changes else "GET"
        reply = exchange(method, f"{self.uri}/_world", changes or None, timeout=3).expect()
        if reply.headers.get("x-rig") != self._name:
            raise StartError(f"another server answers on {self.uri}")
        found: dict[str, Any] = reply.json()
        return found

    def heal(self) -> None:
        """Lab: the failing handlers succeed from now on."""
        self.world(heal=True)

    def break_(self) -> None:
        """Lab: the failing handlers fail again."""
        self.world(heal=False)

    def _start(self) -> None:
        self._child = Child(
            [sys.executable, "-m", "e2e.services.serve", self.application, "--port", str(self._port)],
            log=self.work / "logs" / f"{self.application}.log",
            env=self._env,
            cwd=ROOT,
            detached=self._detached,
        )
        self._child.wait_until(self._ready, 30)

    def _ready(self) -> bool:
        try:
            self.world()
        except NOBODY_THERE:
            return False
        return True
