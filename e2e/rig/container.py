"""A container as a node would run it: runc, an unpacked image, and what the Pod says.

`in_container()` gives what a `Child` runs. Its own here is everything but the network: a root that nobody writes to,
the image's user without capabilities, the system calls that a runtime's default profile lets through, the Pod's limit
of memory. The runtime is the first process of a namespace that dies with whoever started it: nothing outlives it.
"""

import json
import platform
from pathlib import Path
from typing import Any

from e2e.rig.toolchain import MissingToolError

_PROFILE = Path("/usr/share/containers/seccomp.json")
"""The default profile of containers, as Debian ships it with buildah."""
_MACHINES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

Object = dict[str, Any]


def in_container(pod: Object, root: Path, home: Path) -> list[str]:
    """Write the bundle of a Pod's container into `home`; the command that runs it in the foreground.

    `pod` is as for `podenter.py`, with `name`, and `memory` as Kubernetes writes it (None: no limit).
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(_specification(pod, root)))
    leash = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*leash, "runc", "--root", str(home / "state"), "run", "--bundle", str(home), pod["name"]]


def _specification(pod: Object, root: Path) -> Object:
    assert pod["read_only_root"], "the unpacked image is shared"
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": pod["user"], "gid": pod["user"]},
            "args": pod["argv"],
            "env": [f"{name}={value}" for name, value in pod["env"].items()],
            "cwd": "/",
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": pod["name"],
        "mounts": [*_of_the_system(), *map(_mount, pod["mounts"])],
        "linux": {
            # Pods here share the machine's network, where the servers are.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                **({"memory": {"limit": _bytes(pod["memory"])}} if pod["memory"] else {}),
            },
            "seccomp": _default_profile(),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _of_the_system() -> list[Object]:
    safe = ["nosuid", "noexec", "nodev"]
    given = [{"destination": f"/etc/{n}", "type": "bind", "source": f"/etc/{n}"} for n in ("hosts", "resolv.conf")]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*safe, "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*safe, "ro"]},
        *(entry | {"options": ["bind", "ro", *safe]} for entry in given),
    ]


def _mount(given: Object) -> Object:
    if given["source"] is None:
        options = ["nosuid", "nodev", "mode=1777", f"size={given['size']}"]
        return {"destination": given["target"], "type": "tmpfs", "source": "tmpfs", "options": options}
    return {"destination": given["target"], "type": "bind", "source": given["source"], "options": ["bind", "ro"]}


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]] if quantity[-2:] in _UNITS else int(quantity)


def _default_profile() -> Object:
    """The default profile for a process without capabilities on this machine, in the runtime's form."""
    if not _PROFILE.exists():
        raise MissingToolError(f"{_PROFILE} is missing: it comes with buildah")
    name, architecture = _MACHINES[platform.machine()]
    profile = json.loads(_PROFILE.read_text())
    rules = [
        {"names": rule["names"], "action": rule["action"], "args": rule["args"] or []}
        | ({"errnoRet": rule["errnoRet"]} if "errnoRet" in rule else {})
        for rule in profile["syscalls"]
        if not rule["includes"].get("caps")
        and name in rule["includes"].get("arches", [name])
        and name not in rule["excludes"].get("arches", [])
    ]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [architecture],
        "syscalls": rules,
    }
