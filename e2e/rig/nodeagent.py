"""A stand-in for the node: takes the Pods that the Deployment controller makes and runs them as local processes.

What a Pod gets here is what it would get from a kubelet, as far as processes can have it: its command, arguments and
environment (and nothing of ours), a token that is bound to it, mounted where in-cluster configuration reads it, its
other volumes, its user without capabilities, a read-only root, an address of its own, probes, a restart when it ends or
its liveness probe fails, SIGTERM and its grace period. Its status is reported, so `helm install --wait` and rollouts
come to an end for real. `images` says what an image runs: with a root file system as a real container, else as a
process of this machine. Not here: other networks.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.rig.container import in_container
from e2e.rig.controlplane import ControlPlane
from e2e.rig.process import Child
from e2e.rig.toolchain import ROOT
from e2e.rig.wire import NOBODY_THERE, exchange

NODE = "rig"
_ENTER = Path(__file__).with_name("podenter.py")
_PACE_SECONDS = 0.2
_HEARTBEAT_SECONDS = 10.0
_addresses = itertools.count(2)

Object = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """What is in an image: the command that is its entry point, and the environment that it brings."""

    entrypoint: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    """Its files, unpacked: what is run is a container of them."""


OPERATOR = Image(
    [sys.executable, "-m", "invocation_operator"],
    {"PYTHONPATH": str(ROOT / "operator"), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath},
)
"""The operator's, with this checkout in the place of the wheel."""


def missing() -> str:
    """Why Pods cannot be run here; empty when they can."""
    spec = {"mounts": [], "keep": [], "read_only_root": False, "user": None, "parent": os.getpid(), "env": {}}
    command = [sys.executable, "-S", "-E", str(_ENTER), json.dumps({**spec, "argv": ["/bin/true"]})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2] or "no namespaces"


class NodeAgent:
    """Use as a context manager. Pods whose image is not one of `images` (a prefix of its name) stay pending."""

    def __init__(self, plane: ControlPlane, images: Mapping[str, Image], work: Path) -> None:
        self._plane = plane
        self._images = images
        self._work = work
        self._pods: dict[str, _Pod] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node agent", daemon=True)
        self._beat_at = float("-inf")
        self.troubles: list[str] = []
        """What went wrong in the agent itself; a test looks that there is nothing."""

    def __enter__(self) -> Self:
        self._work.mkdir(parents=True, exist_ok=True)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self._plane.request("POST", "/api/v1/nodes", node).expect(201, 409)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        for pod in self._pods.values():
            pod.kill()

    def log(self, pod: str) -> str:
        """What a Pod's process wrote, in all its lives."""
        return (self._work / pod / "log").read_text()

    def process(self, pod: str) -> Child:
        """The process of a running Pod, to be frozen or killed."""
        child = next(p.child for p in self._pods.values() if p.name == pod)
        assert child is not None, f"{pod} does not run"
        return child

    def address(self, pod: str) -> str:
        """The address that a Pod has been given."""
        return next(p.address for p in self._pods.values() if p.name == pod)

    def _run(self) -> None:
        while not self._ending.wait(_PACE_SECONDS):
            try:
                self._look()
            except (*NOBODY_THERE, RuntimeError) as error:
                if not self._ending.is_set():
                    self.troubles.append(str(error)[:500])

    def _look(self) -> None:
        if time.monotonic() - self._beat_at > _HEARTBEAT_SECONDS:
            self._beat_at = time.monotonic()
            ready = {"type": "Ready", "status": "True", "reason": "Rig", "lastHeartbeatTime": _now()}
            self._plane.request("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [ready]}}).expect()
        found = self._plane.request("GET", "/api/v1/pods").expect().json()["items"]
        seen = {obj["metadata"]["uid"]: obj for obj in found}
        for uid, obj in seen.items():
            if uid not in self._pods and "deletionTimestamp" in obj["metadata"] and not obj["spec"].get("nodeName"):
                continue  # nobody ever ran it, so the API server removes it itself
            if uid not in self._pods:
                image = self._image(obj)
                if image is None:
                    continue
                self._pods[uid] = _Pod(self._plane, obj, image, self._work / obj["metadata"]["name"])
            self._pods[uid].step(obj)
        for uid in [uid for uid in self._pods if uid not in seen]:
            self._pods.pop(uid).kill()

    def _image(self, obj: Object) -> Image | None:
        names = [container["image"] for container in obj["spec"]["containers"]]
        fitting = [image for prefix, image in self._images.items() if all(name.startswith(prefix) for name in names)]
        return fitting[0] if fitting and len(names) == 1 else None


class _Pod:
    """One Pod with one container, stepped through its life."""

    def __init__(self, plane: ControlPlane, obj: Object, image: Image, home: Path) -> None:
        self._plane = plane
        self._image = image
        self._home = home
        self._obj = obj
        self.name: str = obj["metadata"]["name"]
        number = next(_addresses)
        self.address = f"127.{100 + os.getpid() % 100}.{number // 256}.{number % 256}"
        self.child: Child | None = None
        self._restarts = 0
        self._started_at = 0.0
        self._since = ""
        self._again_at = 0.0
        self._end_at: float | None = None
        self._ready = False
        self._failures = {"livenessProbe": 0, "readinessProbe": 0}
        self._probed_at = {"livenessProbe": 0.0, "readinessProbe": 0.0}
        self._told: Object = {}

    @property
    def _path(self) -> str:
        metadata = self._obj["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    @property
    def _container(self) -> Object:
        found: Object = self._obj["spec"]["containers"][0]
        return found

    def step(self, obj: Object) -> None:
        """Do what is to be done now."""
        self._obj = obj
        if "deletionTimestamp" in obj["metadata"]:
            return self._end()
        if not obj["spec"].get("nodeName"):
            binding = {"metadata": {"name": self.name}, "target": {"kind": "Node", "name": NODE}}
            self._plane.request("POST", f"{self._path}/binding", binding).expect(201, 409)
            return None
        if self._over():
            return self._tell()
        if self.child is None or not self.child.running:
            self._start()
        else:
            self._probe()
        return self._tell()

    def kill(self) -> None:
        """End the process at once."""
        if self.child is not None:
            self.child.kill()
        shutil.rmtree(self._home / "volumes", ignore_errors=True)

    # Life and death.

    def _over(self) -> bool:
        """Whether the process has ended and is not to be started again."""
        if self.child is None or self.child.running:
            return False
        policy = self._obj["spec"]["restartPolicy"]
        return policy == "Never" or (policy == "OnFailure" and self.child.exit_code == 0)

    def _start(self) -> None:
        now = time.monotonic()
        if self.child is not None and self._again_at == 0.0:
            self._restarts, self._ready = self._restarts + 1, False
            self._again_at = now + min(0.5 * 2**self._restarts, 30.0)
        if now < self._again_at:
            return
        spec = self._obj["spec"]
        security = {**spec.get("securityContext", {}), **self._container.get("securityContext", {})}
        user = security.get("runAsUser")
        assert not security.get("runAsNonRoot") or user, "runAsNonRoot needs a user: the image's is not known here"
        given = {
            "argv": [*self._container.get("command", self._image.entrypoint), *self._container.get("args", ())],
            "env": self._environment(),
            "mounts": self._mounts(),
            "read_only_root": bool(security.get("readOnlyRootFilesystem")),
            "user": user,
            "keep": sorted({str(ROOT), sys.prefix, sys.base_prefix}),
            "parent": os.getpid(),
            "name": self.name,
            "memory": self._container.get("resources", {}).get("limits", {}).get("memory"),
        }
        command = [sys.executable, "-S", "-E", str(_ENTER), json.dumps(given)]
        if self._image.root:
            command = in_container(given, self._image.root, self._home / f"life-{self._restarts}")
        self.child = Child(command, log=self._home / "log")
        self._started_at, self._since, self._again_at = time.monotonic(), _now(), 0.0
        self._failures = dict.fromkeys(self._failures, 0)
        self._probed_at = dict.fromkeys(self._probed_at, 0.0)

    def _end(self) -> None:
        now = time.monotonic()
        if self.child is not None and self.child.running:
            if self._end_at is None:
                self._end_at = now + float(self._obj["metadata"].get("deletionGracePeriodSeconds", 30))
                self.child.signal(signal.SIGTERM)
            elif now >= self._end_at:
                self.child.signal(signal.SIGKILL)
            return
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._obj["metadata"]["uid"]}}
        self._plane.request("DELETE", self._path, options).expect(200, 202, 404, 409)

    # What it gets.

    def _environment(self) -> dict[str, str]:
        host, port = self._plane.url.removeprefix("https://").rsplit(":", 1)
        made = {"HOME": "/", **self._image.env, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        made |= {"HOSTNAME": self.name}
        for entry in self._container.get("env", ()):
            made[entry["name"]] = entry["value"] if "value" in entry else self._looked_up(entry.get("valueFrom"))
        return made

    def _looked_up(self, source: Object | None) -> str:
        if source is None:
            return ""
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        ((kind, ref),) = source.items()
        plural = {"secretKeyRef": "secrets", "configMapKeyRef": "configmaps"}[kind]
        return self._data(plural, ref["name"])[ref["key"]].decode()

    def _field(self, path: str) -> str:
        if path == "status.podIP":
            return self.address
        found: Any = self._obj
        for part in path.split("."):
            found = found[part]
        return str(found)

    def _data(self, plural: str, name: str) -> dict[str, bytes]:
        namespace = self._obj["metadata"]["namespace"]
        obj = self._plane.request("GET", f"/api/v1/namespaces/{namespace}/{plural}/{name}").expect().json()
        data = obj.get("data") or {}
        return {k: b64decode(v) if plural == "secrets" else v.encode() for k, v in data.items()}

    def _mounts(self) -> list[Object]:
        volumes = {volume["name"]: volume for volume in self._obj["spec"].get("volumes", ())}
        return [self._mount(volumes[m["name"]], m["mountPath"]) for m in self._container.get("volumeMounts", ())]

    def _mount(self, volume: Object, target: str) -> Object:
        if "emptyDir" in volume:
            size = str(volume["emptyDir"].get("sizeLimit", "64Mi")).removesuffix("i").lower()
            return {"source": None, "target": target, "size": size}
        folder = self._home / "volumes" / volume["name"]
        for source in volume["projected"]["sources"] if "projected" in volume else [volume]:
            for name, content in self._files(source).items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(0o444)
        return {"source": str(folder), "target": target}

    def _files(self, source: Object) -> dict[str, bytes]:
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            return {wanted["path"]: self._token(wanted.get("expirationSeconds", 3600)).encode()}
        if "downwardAPI" in source:
            items = source["downwardAPI"]["items"]
            return {item["path"]: self._field(item["fieldRef"]["fieldPath"]).encode() for item in items}
        if "configMap" in source:
            data = self._data("configmaps", source["configMap"]["name"])
            items = source["configMap"].get("items")
            return {item["path"]: data[item["key"]] for item in items} if items else data
        data = self._data("secrets", source["secret"].get("secretName") or source["secret"]["name"])
        return data

    def _token(self, seconds: int) -> str:
        metadata, account = self._obj["metadata"], self._obj["spec"]["serviceAccountName"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self.name, "uid": metadata["uid"]}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        body = {"spec": {"expirationSeconds": seconds, "boundObjectRef": bound}}
        answer = self._plane.request("POST", path, body).expect(201).json()
        return str(answer["status"]["token"])

    # Probes and status.

    def _probe(self) -> None:
        for kind in self._failures:
            probe, now = self._container.get(kind), time.monotonic()
            if probe is None:
                self._ready = self._ready or kind == "readinessProbe"
                continue
            waited = now - self._started_at >= probe.get("initialDelaySeconds", 0)
            if not waited or now - self._probed_at[kind] < probe.get("periodSeconds", 10):
                continue
            self._probed_at[kind] = now
            fine = self._answers(probe["httpGet"], probe.get("timeoutSeconds", 1))
            self._failures[kind] = 0 if fine else self._failures[kind] + 1
            failed = self._failures[kind] >= probe.get("failureThreshold", 3)
            if kind == "readinessProbe":
                self._ready = fine or (self._ready and not failed)
            elif failed and self.child is not None:
                # A kubelet would give it its grace period; whoever does not answer for that long is as good as dead.
                self.child.signal(signal.SIGKILL)

    def _answers(self, get: Object, timeout: float) -> bool:
        ports = {port["name"]: port["containerPort"] for port in self._container.get("ports", ())}
        port = ports.get(get["port"], get["port"])
        with contextlib.suppress(*NOBODY_THERE):
            return 200 <= exchange("GET", f"http://{self.address}:{port}{get['path']}", timeout=timeout).status < 400
        return False

    def _tell(self) -> None:
        running = self.child is not None and self.child.running
        ready = running and self._ready
        state: Object = (
            {"running": {"startedAt": self._since}} if running else {"waiting": {"reason": "CrashLoopBackOff"}}
        )
        container = {
            "name": self._container["name"],
            "image": self._container["image"],
            "imageID": "",
            "ready": ready,
            "started": running,
            "restartCount": self._restarts,
            "state": state,
        }
        phase = "Running"
        if self._over() and self.child is not None:
            code = self.child.exit_code
            phase = "Failed" if code else "Succeeded"
            container["state"] = {"terminated": {"exitCode": code, "startedAt": self._since, "finishedAt": self._since}}
        truth = {True: "True", False: "False"}
        conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        status = {
            "phase": phase,
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": "127.0.0.1",
            "startTime": self._obj["metadata"]["creationTimestamp"],
            "conditions": [{"type": kind, "status": truth[value]} for kind, value in conditions.items()],
            "containerStatuses": [container],
        }
        if status != self._told:
            reply = self._plane.request("PATCH", f"{self._path}/status", {"status": status})
            if reply.expect(200, 404, 409).status == 200:
                self._told = status


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
