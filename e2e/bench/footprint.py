"""Memory of the operator at rest, and how soon after its start it works."""

import subprocess
import sys
import time
from pathlib import Path

from e2e.bench.figures import Figure, median
from e2e.bench.stage import NAMESPACE, ROOT, Stage
from e2e.bench.wire import Line, Watch, ready
from e2e.rig.toolchain import ROOT as CHECKOUT

STARTS = 5
REST_SECONDS = 5.0
WORKED = 50
GOAL_MEBIBYTES = 100

NOTE = (
    f"Memory {REST_SECONDS:.0f} s after the last thing happened, as the kernel counts it (PSS: shared pages in "
    f"proportion). Start: median of {STARTS}, from the start of the process until the first status write of an "
    "InvocationAction that was there before is seen."
)


def measure(stage: Stage, _rounds: int) -> list[Figure]:
    interpreter, _ = _bare("pass")
    starts, imports = [], []
    for number in range(STARTS):
        imports.append(_bare("import invocation_operator.app"))
        starts.append(_start(stage, number))
    libraries, import_seconds = (median(values) for values in zip(*imports, strict=True))
    with stage.operator("footprint") as operator:
        time.sleep(REST_SECONDS)
        rest = _memory(operator.pid)
        _work(stage)
        time.sleep(REST_SECONDS)
        worked = _memory(operator.pid)
    resident = rest["Rss"]
    return [
        Figure("memory at rest, RSS", _mebibytes(resident), f"goal ≤ {GOAL_MEBIBYTES} MiB", resident <= GOAL_MEBIBYTES),
        Figure("memory at rest, PSS", _mebibytes(rest["Pss"])),
        Figure(f"memory after {WORKED} actions, RSS", _mebibytes(worked["Rss"])),
        Figure("of it: a bare Python interpreter", _mebibytes(interpreter), f"{interpreter / resident:.0%} of RSS"),
        Figure(
            "of it: with the operator's modules imported", _mebibytes(libraries), f"{libraries / resident:.0%} of RSS"
        ),
        Figure(
            "start → first status write of an existing action", f"{median(starts):.2f} s", f"worst {max(starts):.2f} s"
        ),
        Figure("of it: importing the modules", f"{import_seconds:.2f} s", "processor time"),
    ]


def _start(stage: Stage, number: int) -> float:
    """Create an action, start the operator, wait for the first status."""
    (id_,) = stage.suspended(1)
    name = f"waits-{number}"
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"
    Line.to(stage.control_plane).request("POST", path, stage.action(name, "Cancel", {"ids": [id_]}))
    with Watch(stage.control_plane, path) as watch:
        begun = time.perf_counter()
        child = stage.start_operator(f"start-{number}")
        try:
            at, _ = watch.first(lambda obj: obj["metadata"]["name"] == name and "phase" in obj.get("status", {}))
            watch.first(lambda obj: obj["metadata"]["name"] == name and ready(obj))
        except TimeoutError as error:
            raise RuntimeError(f"{error}; the operator says:\n{child.tail()}") from error
        finally:
            child.stop(grace=10)
    return at - begun


def _work(stage: Stage) -> None:
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"
    line = Line.to(stage.control_plane)
    ids = stage.suspended(WORKED)
    with Watch(stage.control_plane, path) as watch:
        for number, id_ in enumerate(ids):
            line.request("POST", path, stage.action(f"work-{number}", "Cancel", {"ids": [id_]}))
        for number in range(WORKED):
            watch.first(lambda obj, name=f"work-{number}": obj["metadata"]["name"] == name and ready(obj))  # type: ignore[misc]


def _memory(pid: int) -> dict[str, float]:
    """Mebibytes of a process, by the kernel's names."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines)}


def _bare(code: str) -> tuple[float, float]:
    """RSS in MiB and seconds of processor time of a Python process that only runs ``code``."""
    said = f"{code}\nprint(open('/proc/self/smaps_rollup').read())"
    command = [
        sys.executable,
        "-c",
        f"import time\nbegun = time.process_time()\n{said}\nprint(time.process_time() - begun)",
    ]
    environment = {"PYTHONPATH": str(CHECKOUT / "operator"), "PATH": ""}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    resident = next(line for line in out.splitlines() if line.startswith("Rss:"))
    return int(resident.split()[1]) / 1024, float(out.splitlines()[-1])


def _mebibytes(value: float) -> str:
    return f"{value:.0f} MiB"
