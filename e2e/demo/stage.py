"""The stage of the demo: everything started, in the order that the progress lines show, and everything ended again."""

import os
import shlex
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.demo.screen import Screen
from e2e.rig import Cluster, ControlPlane, Engine, ServicesProcess, operator_process, toolchain
from e2e.rig.process import Child

NAMESPACE = "shop"
OPERATOR_NAMESPACE = "invocation-operator-demo"
EXAMPLES = toolchain.ROOT / "docs" / "examples"
_OPERATOR_LABEL = "app.kubernetes.io/name=restate-invocation-operator"

Object = dict[str, Any]


class DemoError(RuntimeError):
    """Something did not happen, or cannot; the message says what."""


class Stage:
    """A context manager: sets up on entry, ends what it started and removes what it made on exit."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._stack = ExitStack()
        self.cluster: Cluster
        self.engine: Engine
        self.shop: ServicesProcess
        self.operator: Child
        self._kubeconfig: Path | None = None
        self._scratch: Path

    def __enter__(self) -> Self:
        try:
            self._scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything. A second Ctrl-C must not leave half of it running."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._stack.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Setting up.

    def _set_up(self) -> None:
        self._start_cluster()
        with self._step("engine") as told:
            self.engine = self._stack.enter_context(Engine())
            told(f"restate-server {self.engine.version}, a real one, in a directory of its own")
        with self._step("services") as told:
            self.shop = self._stack.enter_context(ServicesProcess("shop"))
            self.engine.register(self.shop.uri)
            told("the shop: checkout, payment, inventory, report; registered")
        with self._step("operator") as told:
            self._start_operator()
            told("connected to the engine: the RestateEngine production is Ready")

    def _start_cluster(self) -> None:
        with self._step("control plane") as told:
            if os.environ.get("CLUSTER") == "current":
                self.cluster = Cluster()
                self._refuse_a_cluster_in_use()
                told("your current kubeconfig's cluster")
            else:
                ours = self._stack.enter_context(ControlPlane())
                self.cluster, self._kubeconfig = ours, ours.kubeconfig
                told(f"etcd, kube-apiserver and controllers, Kubernetes {toolchain.KUBERNETES}")
        with self._step("resources") as told:
            names = self._install_crds()
            for namespace in (NAMESPACE, OPERATOR_NAMESPACE):
                self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
                self._stack.callback(self._remove, "namespace", namespace)
            told(", ".join(name.partition(".")[0] for name in names))

    def _install_crds(self) -> list[str]:
        crds = toolchain.ROOT / "crds"
        there = {item["metadata"]["name"] for item in self.cluster.get("crd")["items"]}
        names = self.cluster.apply_crds(crds)
        for name in set(names) - there:
            self._stack.callback(self._remove, "crd", name)
        return names

    def _refuse_a_cluster_in_use(self) -> None:
        """What the demo makes it deletes, so nothing of it may be there before."""
        for namespace in (NAMESPACE, OPERATOR_NAMESPACE):
            if self.cluster.kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "name").stdout:
                raise DemoError(
                    f"the cluster has a namespace {namespace!r}, which the demo would use and delete: remove it"
                )
        if self.cluster.get("deployments", "-A", "-l", _OPERATOR_LABEL)["items"]:
            raise DemoError(
                "the cluster runs the operator already, which would do the demo's work too: use another one"
            )

    def _remove(self, kind: str, name: str) -> None:
        """On a cluster of our own there is nothing to tidy up: it ends."""
        if self._kubeconfig is None:
            self.cluster.kubectl(
                "delete", kind, name, "--ignore-not-found", "--wait=true", "--timeout=60s", check=False
            )

    def _start_operator(self) -> None:
        production = yaml.safe_load((EXAMPLES / "engine.yaml").read_text())
        del production["spec"]["service"]
        self.cluster.apply({**production, "spec": {**production["spec"], "url": self.engine.admin_url}})
        options = ["--namespace", NAMESPACE, "--operator-namespace", OPERATOR_NAMESPACE, "--log-format", "json"]
        options += ["--bind-address", "127.0.0.1", "--metrics-port", "0", "--health-port", "0"]
        log = self._scratch / "operator.log"
        self.operator = operator_process.start(self._kubeconfig, log=log, args=("run", *options))
        self._stack.callback(self.operator.stop, grace=10)
        self.operator.wait_until(self._connected, 60, interval=0.1)

    def _connected(self) -> bool:
        status = self.cluster.get("reng", "production", "-n", NAMESPACE).get("status", {})
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

    @contextmanager
    def _step(self, name: str) -> Iterator[Callable[[str], None]]:
        begun = time.monotonic()
        told: list[str] = []
        yield told.append
        self.screen.progress(name, told[-1] if told else "", time.monotonic() - begun)

    # Playing: the reader sees the command that is run.

    def kubectl(self, line: str, *, expect_failure: bool = False, keep: Callable[[str], str] | None = None) -> str:
        """Show and run ``kubectl <line>`` in the namespace of the demo; show (through ``keep``) what it printed."""
        self.screen.command(f"kubectl {line}")
        done = self.cluster.kubectl("-n", NAMESPACE, *shlex.split(line), check=False)
        if (done.returncode != 0) is not expect_failure:
            raise DemoError(f"kubectl {line} ended with {done.returncode}: {done.stderr or done.stdout}")
        said = done.stderr if expect_failure else done.stdout
        self.screen.output(keep(said) if keep else said)
        return said

    def apply(self, name: str, *, shown: bool = True, expect_failure: bool = False) -> str:
        """Show a manifest of docs/examples and apply it."""
        path = EXAMPLES / name
        if shown:
            self.screen.manifest(path.read_text())
            self.screen.read(2.5)
        relative = path.relative_to(toolchain.ROOT)
        self.screen.command(f"kubectl apply -f {relative}")
        done = self.cluster.kubectl("apply", "-f", path, check=False)
        if (done.returncode != 0) is not expect_failure:
            raise DemoError(f"kubectl apply -f {relative}: {done.stderr or done.stdout}")
        said = done.stderr if expect_failure else done.stdout
        self.screen.output(said.replace(f"{toolchain.ROOT}/", ""))
        return said

    def watch(self, name: str, *phases: str, timeout: float = 60) -> Object:
        """`kubectl get iact <name> -w`, line by line as it comes, until the action is in one of ``phases``."""
        line = f"get iact {name} -w"
        self.screen.command(f"kubectl {line}")
        log = self._scratch / f"watch-{time.monotonic_ns()}.log"
        command: list[str | Path] = [toolchain.kubectl(), "-n", NAMESPACE, *line.split()]
        if self._kubeconfig:
            command += ["--kubeconfig", self._kubeconfig, "--cache-dir", self._scratch / "kubectl"]
        child = Child(command, log=log)
        try:
            return self._follow(child, name, phases, timeout)
        finally:
            child.kill()
            log.unlink(missing_ok=True)

    def _follow(self, child: Child, name: str, phases: tuple[str, ...], timeout: float) -> Object:
        deadline = time.monotonic() + timeout
        shown: list[str] = []
        while True:
            found = self.action(name)
            ended = self._in_phase(found, phases)
            if ended:
                # Its last line may still be on the way, or kubectl itself.
                self._shown(child, name, found["status"]["phase"])
            lines = child.log.read_text().splitlines()
            for line in lines[len(shown) :]:
                if not shown or line != shown[-1]:
                    self.screen.row(line)
                shown.append(line)
            if ended:
                return found
            if time.monotonic() > deadline:
                raise DemoError(f"{name} is {found.get('status', {}).get('phase')} after {timeout:.0f} s")
            time.sleep(0.1)

    def _shown(self, child: Child, name: str, phase: str) -> None:
        self.until(f"kubectl shows {name} as {phase}", lambda: f" {phase} " in _last_line(child))

    def wait(self, name: str, *phases: str, timeout: float = 60) -> Object:
        """Wait, without showing it, until the action is in one of ``phases``."""
        found: Object = {}

        def there() -> bool:
            found.clear()
            found.update(self.action(name))
            return self._in_phase(found, phases)

        self.until(f"{name} is {' or '.join(phases)}", there, timeout)
        return found

    @staticmethod
    def _in_phase(found: Object, phases: tuple[str, ...]) -> bool:
        status = found.get("status", {})
        return status.get("observedGeneration") == found["metadata"]["generation"] and status.get("phase") in phases

    def action(self, name: str) -> Object:
        found: Object = self.cluster.get("iact", name, "-n", NAMESPACE)
        return found

    def until(self, fact: str, holds: Callable[[], object], timeout: float = 20) -> None:
        """Wait until ``holds``. Raises ``DemoError`` with ``fact`` when it does not come true."""
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline:
                raise DemoError(f"this did not come true in {timeout:.0f} s: {fact}")
            time.sleep(0.1)

    def check(self, fact: str, holds: Callable[[], object], timeout: float = 20) -> None:
        """As ``until``, and told."""
        self.until(fact, holds, timeout)
        self.screen.checked(fact)

    def logs(self) -> str:
        """The operator's last lines, for a failure."""
        return self.operator.tail(15) if hasattr(self, "operator") else ""


def _last_line(child: Child) -> str:
    lines = child.log.read_text().splitlines()
    return lines[-1] if lines else ""


def on_sigterm() -> None:
    """Let SIGTERM unwind as Ctrl-C does."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
