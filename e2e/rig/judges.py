"""What Flux and Argo CD make of our objects, by their own code (`e2e/judges`): judged, applied, compared, pruned.

One process; it ends with its input, so it does not outlive whoever started it.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.rig import toolchain

CUSTOMIZATIONS = toolchain.ROOT / "docs" / "examples" / "argo-cd" / "resource_customizations"

Object = dict[str, Any]


class JudgeError(RuntimeError):
    """A judge failed; the message is what it said, `said` what it had done by then."""

    def __init__(self, message: str, said: Any = None) -> None:
        super().__init__(message)
        self.said = said


class Judges:
    """`kubeconfig` and `namespace` are for the judges that apply: one Application, one Kustomization."""

    def __init__(self, kubeconfig: Path | None = None, namespace: str = "", *, log: Path | None = None) -> None:
        self._command = [str(toolchain.judges()), f"--customizations={CUSTOMIZATIONS}"]
        if kubeconfig is not None:
            self._command += [f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        self._log = log

    def __enter__(self) -> Self:
        with (self._log or Path("/dev/null")).open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, judge: str, objects: Sequence[Mapping[str, Any]], *, seconds: float = 60, **options: bool) -> Any:
        """What `judge` says of `objects`; raises `JudgeError` when it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"judge": judge, "objects": list(objects), "seconds": seconds, "options": options}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text()[-2000:] if self._log else ""
            raise JudgeError(f"the judges have ended ({self._process.wait(10)}):\n{last}")
        answer = json.loads(line)
        if "error" in answer:
            raise JudgeError(answer["error"], answer.get("said"))
        return answer["said"]

    def kstatus(self, objects: Sequence[Object]) -> list[str]:
        """Flux's verdict on each object: Current, InProgress, Failed, Terminating, NotFound, Unknown."""
        return [one["status"] for one in self.ask("kstatus", objects)]

    def health(self, objects: Sequence[Object]) -> list[str]:
        """Argo CD's verdict on each object, by our health script in its interpreter."""
        return [one["status"] for one in self.ask("health", objects)]

    def compare(self, objects: Sequence[Object], **options: bool) -> dict[str, Object]:
        """Argo CD's comparison of a directory in Git with the cluster, by `Kind/name`."""
        return {f"{one['kind']}/{one['name']}": one for one in self.ask("argo-compare", objects, **options)}

    def sync(self, objects: Sequence[Object], *, seconds: float = 60, **options: bool) -> dict[str, Object]:
        """One sync operation of Argo CD, with pruning: what became of each object, by `Kind/name`."""
        said = self.ask("argo-sync", objects, seconds=seconds, **options)
        return {f"{one['kind']}/{one['name']}": one for one in said}

    def apply(self, objects: Sequence[Object], **options: bool) -> dict[str, str]:
        """Flux's apply of a directory in Git: what was done to each object, by `Kind/name`."""
        return dict(self.ask("flux-apply", objects, **options))

    def wait(self, objects: Sequence[Object], seconds: float) -> None:
        """Flux's health check, as of a Kustomization that others depend on; raises when it does not pass."""
        self.ask("flux-wait", objects, seconds=seconds)

    def prune(self, objects: Sequence[Object]) -> dict[str, str]:
        """Flux's garbage collection of what has left Git."""
        return dict(self.ask("flux-prune", objects))
