"""The operator under test as a process, run from this checkout."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.rig.process import Child, Detached
from e2e.rig.toolchain import ROOT

_PACKAGE = ROOT / "operator"
_KEPT = {"PYTHONDONTWRITEBYTECODE": ""}
"""It is started hundreds of times: what it is compiled to is kept beside it, whatever our own environment says."""


def available() -> bool:
    """Whether this checkout has an operator that can be started."""
    return (_PACKAGE / "invocation_operator" / "__main__.py").exists()


def start(
    kubeconfig: Path | None,
    *,
    log: Path,
    args: Sequence[str] = ("run",),
    env: Mapping[str, str] | None = None,
    detached: Detached | None = None,
) -> Child:
    """Run `invocation-operator run`, with None on the user's current cluster; the caller waits for what it needs."""
    settings = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    return Child(
        [sys.executable, "-m", "invocation_operator", *args],
        log=log,
        env={"PYTHONPATH": str(_PACKAGE), "PYTHONUNBUFFERED": "1", **_KEPT, **settings, **(env or {})},
        cwd=log.parent,
        detached=detached,
    )
