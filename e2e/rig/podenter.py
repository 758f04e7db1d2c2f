"""`podenter.py <specification>` becomes a container's process: in mounts of its own, as its user, with its environment.

The specification is JSON: `argv`, `env`, `mounts` (`source` a directory or null for memory, `target`, `size`),
`read_only_root`, `user` (null: whoever we are), `keep` (directories that stay visible whatever is mounted above them)
and `parent`. A program of its own for the same reason as `leash.py`. Needs root, or a kernel that lets users have
namespaces; without root the user stays the same.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    parts = [part.encode() if part is not None else None for part in (source, target, kind)]
    if _libc.mount(*parts, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")


def unshare() -> None:
    """Mounts of our own, which nobody outside sees."""
    user, group, root = os.geteuid(), os.getegid(), os.geteuid() == 0
    if _libc.unshare(_NEWNS if root else _NEWNS | _NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), f"no namespace: {os.strerror(ctypes.get_errno())}")
    if not root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount("none", "/", None, _REC | _PRIVATE)


def mount_all(mounts: list[dict[str, object]], keep: list[str]) -> None:
    """What the Pod mounts, and above it what must stay visible."""
    kept = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in keep}
    opened = [(m, os.open(str(m["source"]), os.O_PATH) if m["source"] else None) for m in mounts]
    for path in keep:
        # Where only we may go (a home directory, say), its user would not find them.
        closed = [
            parent for parent in reversed(Path(path).parents) if parent.is_dir() and not parent.stat().st_mode & 1
        ]
        if closed:
            mount("tmpfs", str(closed[0]), "tmpfs", _NOSUID | _NODEV, "mode=755")
    for made, source in opened:
        target = str(Path(str(made["target"])).resolve())
        if not Path(target).is_dir():
            # In memory, above the nearest directory that there is: nothing outside is touched.
            above = next(parent for parent in Path(target).parents if parent.is_dir())
            mount("tmpfs", str(above), "tmpfs", _NOSUID | _NODEV, "mode=755")
            Path(target).mkdir(parents=True)
        if source is None:
            mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={made['size']}")
        else:
            mount(f"/proc/self/fd/{source}", target, None, _BIND)
            mount("none", target, None, _BIND | _REMOUNT | _RDONLY)
            os.close(source)
    for path, descriptor in kept.items():
        if not Path(path).is_dir():
            Path(path).mkdir(parents=True)
            mount(f"/proc/self/fd/{descriptor}", path, None, _BIND)
        os.close(descriptor)


def read_only(but: set[str]) -> None:
    """Everything that is mounted, but for these, as far as the kernel lets us."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in points:
        if point not in but and not point.startswith(("/proc", "/dev", "/sys")):
            try:
                mount("none", point, None, _BIND | _REMOUNT | _RDONLY)
            except OSError:
                continue


def become(user: int | None) -> None:
    """That user, without capabilities, for good."""
    if user is not None and os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[2] != "1":
        for capability in range(64):
            _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main(given: str) -> None:
    """Become it."""
    spec = json.loads(given)
    unshare()
    mount_all(spec["mounts"], spec["keep"])
    if spec["read_only_root"]:
        read_only({str(Path(m["target"]).resolve()) for m in spec["mounts"] if m["source"] is None})
    os.chdir("/")
    become(spec["user"])
    # A change of user takes the leash off.
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec["parent"]:
        sys.exit("the parent is gone already")
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    main(sys.argv[1])
