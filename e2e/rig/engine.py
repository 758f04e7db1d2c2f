"""A Restate engine on loopback, and the few requests that tests make of it directly.

These requests are deliberately not the operator's own client: a test that used the
code under test to look at the effects would believe its mistakes.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from e2e.rig import toolchain
from e2e.rig.process import Child, Detached, StartError, free_ports, port_was_taken
from e2e.rig.wire import NOBODY_THERE, Reply, exchange

NEWEST = "1.7.12"
OLDEST = "1.6.1"


class Engine:
    """One restate-server with its own data, node name and cluster name.

    `cleanup_interval` (such as "1s") makes the cleaner of expired rows run more often than hourly;
    `env` holds further settings, such as RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT.
    """

    def __init__(
        self,
        version: str = NEWEST,
        *,
        work: Path | None = None,
        cleanup_interval: str | None = None,
        detached: Detached | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.version = version
        self._temporary = None if work else tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True)
        self.work = work or Path(self._temporary.name if self._temporary else "")
        self.work.mkdir(parents=True, exist_ok=True)
        self.cluster_name = f"rig-{secrets.token_hex(6)}"
        self._settings = dict(env or {})
        if cleanup_interval:
            self._settings["RESTATE_WORKER__CLEANUP_INTERVAL"] = cleanup_interval
        self._detached = detached
        self._ports: tuple[int, int, int] = (0, 0, 0)
        self._child: Child | None = None

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def ingress_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    @property
    def process(self) -> Child:
        if self._child is None:
            raise StartError("the engine was not started")
        return self._child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        for last in (False, False, True):
            admin, ingress, node = free_ports(3)
            self._ports = (admin, ingress, node)
            try:
                self._start()
                return self
            except StartError as error:
                self._end(grace=0)
                if last or not port_was_taken(error):
                    self.stop()
                    raise
                shutil.rmtree(self.work / "data", ignore_errors=True)
        raise AssertionError("unreachable")

    def stop(self) -> None:
        self._end(grace=0)
        if self._temporary:
            self._temporary.cleanup()

    def restart(self, *, kill: bool = True, downtime: float = 0.0) -> None:
        """End it (by SIGKILL, or in an orderly way), wait (seconds), start it on the same data and ports."""
        self._end(grace=0 if kill else 15)
        time.sleep(downtime)
        self._start()

    def _start(self) -> None:
        admin, ingress, node = self._ports
        # All of these differ per engine, or a second engine on the machine tries to join the first.
        settings = {
            "RESTATE_CLUSTER_NAME": self.cluster_name,
            "RESTATE_NODE_NAME": f"{self.cluster_name}-1",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_ADMIN__ADVERTISED_ADDRESS": f"http://127.0.0.1:{admin}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_INGRESS__ADVERTISED_ADDRESS": f"http://127.0.0.1:{ingress}",
            "RESTATE_LOG_FILTER": "warn",
            "RESTATE_DISABLE_TELEMETRY": "true",
            **self._settings,
        }
        self._child = Child(
            [toolchain.engine(self.version).server, "--base-dir", self.work / "data", "--no-logo"],
            log=self.work / "logs" / "restate-server.log",
            env=settings,
            cwd=self.work,
            detached=self._detached,
        )
        self._child.wait_until(self._ready, 60)

    def _end(self, *, grace: float) -> None:
        if self._child:
            self._child.stop(grace=grace)
            self._child = None

    def _ready(self) -> bool:
        """Healthy on both ports, and it is ours that answers."""
        try:
            if exchange("GET", f"{self.ingress_url}/restate/health", timeout=2).status != 200:
                return False
            cluster = exchange("GET", f"{self.admin_url}/cluster-health", timeout=2)
            # /health is green before the partition can be asked
            probe = exchange(
                "POST", f"{self.admin_url}/query", {"query": "select 1 from sys_invocation limit 1"}, timeout=5
            )
        except NOBODY_THERE:
            return False
        if cluster.status == 200 and cluster.json()["cluster_name"] != self.cluster_name:
            raise StartError(f"another engine answers on {self.admin_url}")
        return cluster.status == probe.status == 200

    # --- what tests ask of it ---

    def admin(self, method: str, path: str, body: Any = None, *, timeout: float = 30) -> Reply:
        return exchange(method, self.admin_url + path, body, headers={"accept": "application/json"}, timeout=timeout)

    def register(self, uri: str, *, force: bool = False) -> str:
        """Register a services endpoint; the deployment's id."""
        body = {"uri": uri, "force": force}
        deployment: str = self.admin("POST", "/deployments", body, timeout=60).expect().json()["id"]
        return deployment

    def sql(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.admin("POST", "/query", {"query": query}).expect().json()["rows"]
        return rows

    def send(
        self,
        service: str,
        handler: str,
        body: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        delay: str | None = None,
    ) -> str:
        """Start an invocation without waiting for it (`delay` such as "10s" or "1h"); its id."""
        path = self._path(service, handler, key) + "/send" + (f"?delay={delay}" if delay else "")
        reply = exchange("POST", path, body, headers=_idempotent(idempotency_key)).expect()
        invocation: str = reply.json()["invocationId"]
        return invocation

    def call(
        self,
        service: str,
        handler: str,
        body: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        timeout: float = 30,
    ) -> Reply:
        """Invoke and wait for the answer, whatever its status."""
        return exchange(
            "POST", self._path(service, handler, key), body, headers=_idempotent(idempotency_key), timeout=timeout
        )

    def operate(self, invocation: str, operation: str, query: str = "") -> Reply:
        """PATCH /invocations/{id}/{operation}: cancel, kill, pause, resume, purge, purge-journal, restart-as-new."""
        return self.admin("PATCH", f"/invocations/{invocation}/{operation}" + (f"?{query}" if query else ""))

    def invocation(self, invocation: str) -> dict[str, Any] | None:
        rows = self.sql(f"select * from sys_invocation where id = {_literal(invocation)}")
        return rows[0] if rows else None

    def wait_status(self, invocation: str, *statuses: str, timeout: float = 15) -> dict[str, Any] | None:
        """Its row once it has one of these statuses; "absent" waits until there is none (and gives None).

        Raises TimeoutError that tells the last status.
        """
        deadline = time.monotonic() + timeout
        while True:
            row = self.invocation(invocation)
            status = row["status"] if row else "absent"
            if status in statuses:
                return row
            if time.monotonic() > deadline:
                raise TimeoutError(f"{invocation} is {status} after {timeout} s, not {' or '.join(statuses)}: {row}")
            time.sleep(0.05)

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The official command line (the newest one, whatever this engine's version) against this engine."""
        command = toolchain.engine(NEWEST).cli
        assert command is not None, "the newest version brings the command line"
        own = {
            "RESTATE_ADMIN_URL": self.admin_url,
            "RESTATE_INGRESS_URL": self.ingress_url,
            # Neither the user's settings nor a place to leave ours.
            "RESTATE_CLI_CONFIG_HOME": str(self.work / "cli"),
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            [command, *args], env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=120
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"restate {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def _path(self, service: str, handler: str, key: str | None) -> str:
        names = [service, *([key] if key is not None else []), handler]
        return self.ingress_url + "".join(f"/{quote(name, safe='')}" for name in names)


def _idempotent(key: str | None) -> dict[str, str]:
    return {"idempotency-key": key} if key else {}


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
