"""The operator's image, built from the Dockerfile without a daemon.

buildah performs the Dockerfile itself, so there is no second recipe that could drift from it. Only the base of its
build stages comes from elsewhere: what `FROM` names is a Debian root of debootstrap's here, because registries of
images may be out of reach. The image is made of packages and of nothing of that root, so both ways lead to the same
files.

What is built is kept in a storage outside the checkout, layer by layer: after a change of the operator's sources
only the wheel is made again.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.rig import toolchain
from e2e.rig.toolchain import ROOT, MissingToolError

TOOLS = ("buildah", "debootstrap", "runc", "unshare")
"""All of them are Debian packages; the last one is everywhere."""
_SUITE, _BASE = "trixie", "debian:trixie-slim"
_MANY_LAYERS = 300
_PIP = ("cert", "index-url", "extra-index-url", "trusted-host", "timeout")

Object = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """One that was built: its id is the digest of its configuration, which names its layers by their digests."""

    identity: str
    storage: Path

    def push(self, into: Path) -> "Layout":
        """Write it as a registry would get it: an OCI layout with compressed layers."""
        _buildah(self.storage, "push", "--quiet", self.identity, f"oci:{into}:operator")
        return Layout(into)


class Layout:
    """An image in the layout of the OCI, with every digest verified."""

    def __init__(self, path: Path) -> None:
        self._path = path
        (entry,) = json.loads((path / "index.json").read_text())["manifests"]
        self.digest: str = entry["digest"]
        manifest = json.loads(self._blob(self.digest))
        self.config: Object = json.loads(self._blob(manifest["config"]["digest"]))
        self._layers: list[Object] = manifest["layers"]

    @property
    def compressed_bytes(self) -> int:
        """What a node pulls."""
        return sum(layer["size"] for layer in self._layers)

    def unpack(self, into: Path) -> Path:
        """Its root file system; as root, with its owners."""
        into.mkdir()
        for layer in self._layers:
            # None of our layers removes anything, so that there are no whiteouts to be understood.
            blob = self._blob(layer["digest"])
            subprocess.run(["tar", "--extract", "--gzip", "-C", into], input=blob, check=True)
        return into

    def _blob(self, digest: str) -> bytes:
        content = (self._path / "blobs" / Path(*digest.split(":"))).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
            raise RuntimeError(f"{digest} in {self._path} is something else")
        return content


def missing() -> str:
    """Why no image can be built and run here; empty when it can. As root on Debian it installs what lacks."""
    if os.geteuid() != 0:
        return "building an image and running it takes root"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking and (apt := shutil.which("apt-get")):
        with toolchain.locked(_folder() / "apt.lock"):
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            try:
                toolchain.run("reading Debian's package lists", [apt, "update"], cwd=ROOT, env=environment)
                wanted = [apt, "install", "--yes", "--no-install-recommends", *lacking]
                toolchain.run(f"installing {', '.join(lacking)}", wanted, cwd=ROOT, env=environment)
            except MissingToolError as error:
                return str(error)
        lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"{', '.join(lacking)} must be installed"
    # Root within a container may be without the right to it.
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this place may not make namespaces, which a container needs"


def build(*, context: Path = ROOT, fresh: bool = False) -> Image:
    """Perform the Dockerfile (a minute the first time, or when `fresh`; then seconds). Raises MissingToolError."""
    ways = _ways_to_the_registries()
    storage = _folder() / toolchain.digest(extra=json.dumps([_SUITE, ways])) / "storage"
    with toolchain.locked(_folder() / "storage.lock"), tempfile.TemporaryDirectory() as scratch:
        listed = _buildah(storage, "images", "--all", "--quiet").split()
        if len(listed) > _MANY_LAYERS:
            _buildah(storage, "rmi", "--all", "--force")
        if not _buildah(storage, "images", "--quiet", "--filter", f"reference={_BASE}").strip():
            _make_base(storage, ways, Path(scratch) / "root")
        version = tomllib.loads((context / "pyproject.toml").read_text())["project"]["version"]
        told = Path(scratch) / "id"
        # fmt: off
        command = [
            *_command(storage), "build", "--isolation", "chroot", "--format", "oci", "--pull-never", "--layers",
            # As SOURCE_DATE_EPOCH does for other builders: every time in it is this one.
            "--timestamp", "0", "--build-arg", f"VERSION={version}", "--iidfile", str(told),
            *(["--no-cache"] if fresh else []), str(context),
        ]
        # fmt: on
        toolchain.run("building the operator's image", command, cwd=context, env={})
        return Image(told.read_text().strip(), storage)


def built_twice() -> tuple[str, str]:
    """The ids of two images that were built from nothing, one after the other.

    Which they were is kept until the recipe or a pin changes: two such builds take minutes.
    """
    files = [
        ROOT / "Dockerfile",
        ROOT / ".dockerignore",
        *sorted((ROOT / "requirements").glob("*.txt")),
        Path(__file__),
    ]

    def both(into: Path) -> None:
        (into / "ids.json").write_text(json.dumps([build(fresh=True).identity for _ in range(2)]))

    first, second = json.loads(
        (toolchain.once(_folder() / f"twice-{toolchain.digest(*files)}", both) / "ids.json").read_text()
    )
    return first, second


def main() -> None:
    """Build it and say what it became, for `make image`. Raises MissingToolError."""
    if reason := missing():
        raise MissingToolError(f"the image cannot be built without a daemon here: {reason} (`docker build .` may do)")
    image = build()
    with tempfile.TemporaryDirectory() as scratch:
        layout = image.push(Path(scratch) / "layout")
        root = layout.unpack(Path(scratch) / "root")
        unpacked = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        print(f"image     {image.identity}\nmanifest  {layout.digest}")
        print(f"size      {layout.compressed_bytes / 1e6:.1f} MB compressed, {unpacked / 1e6:.0f} MB on disk")
    print(f"storage   buildah {' '.join(_command(image.storage)[1:])} images")


def _folder() -> Path:
    folder = toolchain.cache() / "image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _command(storage: Path) -> list[str]:
    # What is mounted does not outlive the machine's uptime, and neither does /run.
    run = Path("/run/restate-invocation-operator") / storage.parent.name
    return ["buildah", "--root", str(storage), "--runroot", str(run)]


def _buildah(storage: Path, *args: str) -> str:
    done = subprocess.run([*_command(storage), *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingToolError(f"buildah {args[0]}: {done.stderr.strip()}")
    return done.stdout


def _make_base(storage: Path, ways: Object, root: Path) -> None:
    """What the Dockerfile builds from, with this machine's ways to Debian's packages and to Python's."""
    mirror = [ways["debian"]] if ways["debian"] else []
    command = ["debootstrap", "--variant=minbase", _SUITE, str(root), *mirror]
    toolchain.run(f"making a root of Debian {_SUITE}", command, cwd=ROOT, env={})
    if ways["debian"]:
        suites = {_SUITE: ways["debian"], f"{_SUITE}-updates": ways["debian"], f"{_SUITE}-security": ways["security"]}
        lines = [f"deb {address} {suite} main\n" for suite, address in suites.items() if address]
        (root / "etc/apt/sources.list").write_text("".join(lines))
    settings = dict(ways["pip"])
    if ways["authorities"]:
        (root / "etc/pip-authorities.crt").write_text(ways["authorities"])
        settings["cert"] = "/etc/pip-authorities.crt"
    (root / "etc/pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    container = _buildah(storage, "from", "scratch").strip()
    try:
        _buildah(storage, "add", "--quiet", container, str(root), "/")
        _buildah(storage, "commit", "--quiet", container, _BASE)
    finally:
        _buildah(storage, "rm", container)


def _ways_to_the_registries() -> Object:
    """Where this machine's apt and pip get packages from: mirrors, and the authorities that vouch for them."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"], capture_output=True, text=True, check=False
    )
    apt = dict(line.split(" ", 1) for line in asked.stdout.splitlines())
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = re.findall(r"^(?:global|:env:|install)\.([a-z-]+)=(.*)$", listed.stdout, re.MULTILINE)
    pip = {key: ast.literal_eval(value) for key, value in found if key in _PIP}
    certificates = pip.pop("cert", None)
    return {
        "debian": apt.get("Debian", ""),
        "security": apt.get("Debian-Security", ""),
        "pip": pip,
        "authorities": Path(certificates).read_text() if certificates else "",
    }
