"""Helm as a test uses it: the pinned binary, a home of its own, and our chart unless another one is named.

Whoever runs it keeps their own Helm configuration, repositories and plugins: none is read or written.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.rig import toolchain

CHART = toolchain.ROOT / "charts" / "restate-invocation-operator"

# The CRDs are long, and the loader in C is ten times as fast; not every installation of PyYAML has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class HelmError(RuntimeError):
    """Helm refused or failed; the message is what it said."""


class Helm:
    """Commands against the cluster of `kubeconfig`; without one only those that need no cluster."""

    def __init__(self, home: Path, kubeconfig: Path | None = None, *, chart: Path = CHART) -> None:
        self._binary = toolchain.helm()
        self._home = home
        self._kubeconfig = kubeconfig
        self._chart = chart

    def run(self, *args: str | Path, values: Mapping[str, Any] | None = None) -> str:
        """Run one command to its end and return what it printed. Raises `HelmError`."""
        kubeconfig = str(self._kubeconfig or os.devnull)
        homes = {f"HELM_{kind}_HOME": str(self._home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        given = [] if values is None else ["--values", "-"]
        done = subprocess.run(
            [str(self._binary), *map(str, args), *given],
            input=json.dumps(values or {}),
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), "KUBECONFIG": kubeconfig, **homes},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise HelmError(f"helm {args[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def lint(self, values: Mapping[str, Any] | None = None) -> str:
        """`helm lint --strict` of the chart."""
        return self.run("lint", "--strict", self._chart, values=values)

    def template(
        self, values: Mapping[str, Any] | None = None, *args: str, release: str = "op", namespace: str = "op-system"
    ) -> list[dict[str, Any]]:
        """The objects that an installation with `values` would make, in Helm's order."""
        text = self.run("template", release, self._chart, "--namespace", namespace, *args, values=values)
        return [found for found in yaml.load_all(text, _LOADER) if found]

    def install(self, release: str, namespace: str, values: Mapping[str, Any] | None = None, *args: str) -> str:
        """`helm install`, without waiting for Pods."""
        return self.run("install", release, self._chart, "--namespace", namespace, *args, values=values)

    def upgrade(self, release: str, namespace: str, values: Mapping[str, Any] | None = None, *args: str) -> str:
        """`helm upgrade`, without waiting for Pods."""
        return self.run("upgrade", release, self._chart, "--namespace", namespace, *args, values=values)

    def uninstall(self, release: str, namespace: str) -> str:
        """`helm uninstall`, waiting until what it deletes is gone; without hooks, which need a node to run on."""
        return self.run("uninstall", release, "--namespace", namespace, "--no-hooks", "--wait", "--timeout", "60s")

    def notes(self, release: str, namespace: str) -> str:
        """What the release told its user."""
        return self.run("get", "notes", release, "--namespace", namespace)
