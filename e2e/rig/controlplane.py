"""A Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager; no kubelet.

Ready in a few seconds. The serving certificate is signed by an authority made for
this one instance, so whoever answers a verified request *is* this instance.
"""

import json
import secrets
import ssl
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from e2e.rig import toolchain
from e2e.rig.certs import Authority, KeyPair, signing_key
from e2e.rig.process import Child, Detached, StartError, free_ports, port_was_taken
from e2e.rig.wire import NOBODY_THERE, KeptConnections, Reply, exchange

ADMISSION_SECONDS = 60.0
"""How long the plugin of admission policies may take to learn of kinds that are served already."""
SPACIOUS = {"GOGC": "400"}
"""Memory for time: collecting garbage is a tenth of what these servers do."""


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# Long texts, which the loader in C reads ten times as fast; not every installation of PyYAML has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Cluster:
    """A cluster that somebody else runs, reached through a kubeconfig (None: the user's current one)."""

    def __init__(self, kubeconfig: Path | None = None, *, scratch: Path | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._scratch = scratch

    def kubectl(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002 - as in subprocess.run
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; with check, a failure is a RuntimeError that holds what it said."""
        command = [str(toolchain.kubectl())]
        if used := kubeconfig or self._kubeconfig:
            command += ["--kubeconfig", str(used)]
        if self._scratch:
            # The default cache is named by host and port, and would remember another server on our port.
            command += ["--cache-dir", str(self._scratch / "kubectl")]
        done = subprocess.run(
            [*command, *map(str, args)], input=input, capture_output=True, text=True, check=False, timeout=120
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(map(str, args))}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def apply(self, what: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]], *args: str) -> str:
        """Server-side apply of YAML text, a file, a directory, one object or several; what kubectl printed."""
        command = ("apply", "--server-side", "--force-conflicts", *args, "-f")
        if isinstance(what, Path):
            return self.kubectl(*command, what).stdout
        if isinstance(what, Mapping):
            what = [what]
        text = what if isinstance(what, str) else yaml.safe_dump_all(what)
        deadline = time.monotonic() + ADMISSION_SECONDS
        while True:
            done = self.kubectl(*command, "-", input=text, check=False)
            if "There can be a delay" not in done.stderr or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def get(self, *args: str) -> Any:
        """`kubectl get … -o json`, read."""
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def apply_crds(self, directory: Path) -> list[str]:
        """Apply every CRD of the directory and wait until they are served; their names (none: nothing to do)."""
        crds = _crds(directory)
        if not crds:
            return []
        self.apply(crds)
        names = [crd["metadata"]["name"] for crd in crds]
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names))
        return names


class ControlPlane(Cluster):
    """Our own cluster. Use as a context manager, or `start()` and `stop()`.

    `users` maps further users of the token file to their groups; `credentials()`
    makes more of them at any time. `detached` leaves the servers running when this process ends
    and is told of each.
    """

    def __init__(
        self,
        *,
        work: Path | None = None,
        users: Mapping[str, Sequence[str]] | None = None,
        controllers: bool = True,
        detached: Detached | None = None,
        apiserver_args: Sequence[str] = (),
    ) -> None:
        self._temporary = None if work else tempfile.TemporaryDirectory(prefix="controlplane-")
        self.work = work or Path(self._temporary.name if self._temporary else "")
        self.work.mkdir(parents=True, exist_ok=True)
        super().__init__(self.work / "kubeconfig", scratch=self.work)
        self._groups = {"admin": ["system:masters"], **(users or {})}
        self.tokens = {user: secrets.token_urlsafe(24) for user in self._groups}
        self._controllers = controllers
        self._detached = detached
        self._extra = list(apiserver_args)
        self._authority = Authority("control plane")
        self._processes: dict[str, Child] = {}
        self._port = 0
        self._connections: KeptConnections | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.work / "kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def token(self) -> str:
        """The cluster administrator's."""
        return self.tokens["admin"]

    @property
    def ca_file(self) -> Path:
        return self.work / "pki" / "ca.crt"

    @property
    def processes(self) -> Mapping[str, Child]:
        """By name: etcd, kube-apiserver, kube-controller-manager."""
        return self._processes

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        binaries = toolchain.control_plane()
        self._write_pki()
        try:
            etcd = self._start_etcd(binaries.etcd)
            self._start_first_apiserver(binaries.apiserver, etcd)
            if self._controllers:
                self._start_controllers(binaries.controller_manager)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End our processes, youngest first, and remove the work directory if we made it."""
        self._hang_up()
        for child in reversed(self._processes.values()):
            # Nothing of value is lost, and a graceful end of the API server waits for its watchers.
            child.kill()
        self._processes.clear()
        if self._temporary:
            self._temporary.cleanup()

    def restart_apiserver(self, *, downtime: float = 0.0) -> None:
        """SIGKILL the API server, wait (seconds), start it on the same port with the same data."""
        killed = self._processes["kube-apiserver"]
        killed.kill()
        time.sleep(downtime)
        self._start_apiserver(killed.command)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "admin",
        timeout: float = 30,
        accept: str = "",
        patch: str = "merge-patch+json",
    ) -> Reply:
        """One plain API request as a user of the token file; much quicker than kubectl."""
        if self._connections is None:
            tls = ssl.create_default_context(cafile=str(self.ca_file))
            self._connections = KeptConnections("127.0.0.1", self._port, tls)
        headers = {"authorization": f"Bearer {self.tokens[user]}", **({"accept": accept} if accept else {})}
        if method == "PATCH":
            headers["content-type"] = f"application/{patch}"
        return self._connections.exchange(method, path, body, headers=headers, timeout=timeout)

    def apply_at(self, path: str, body: Mapping[str, Any]) -> None:
        """What `apply` does with one object, for tests that do it often: starting kubectl takes a fifth of a second."""
        query = "?fieldManager=kubectl&force=true"
        self.request("PATCH", path + query, dict(body), patch="apply-patch+yaml").expect()

    def apply_crds(self, directory: Path) -> list[str]:
        """Without kubectl, which reads every schema of the server first; until each kind can be listed."""
        crds = _crds(directory)
        for crd in crds:
            self.apply_at(f"{CRDS}/{crd['metadata']['name']}", crd)
        for crd in crds:
            self._processes["kube-apiserver"].wait_until(lambda crd=crd: self._served(crd), 60)  # type: ignore[misc]
        return [crd["metadata"]["name"] for crd in crds]

    def _served(self, crd: Mapping[str, Any]) -> bool:
        found = self.request("GET", f"{CRDS}/{crd['metadata']['name']}").expect().json()
        conditions = found.get("status", {}).get("conditions") or ()
        if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return False
        # What keeps its objects is made a moment later.
        spec = crd["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        return self.request("GET", path).status == 200

    def credentials(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for any user, by a client certificate; RBAC decides what that user may do."""
        pair = self._authority.client(user, groups)
        path = self.work / f"{user.replace(':', '_').replace('/', '_')}.kubeconfig"
        _write_kubeconfig(path, self.url, self._authority.pem, pair)
        return path

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of an existing service account."""
        token = self.kubectl("create", "token", name, "-n", namespace).stdout.strip()
        path = self.work / f"{namespace}-{name}.kubeconfig"
        _write_kubeconfig(path, self.url, self._authority.pem, token)
        return path

    def kubeconfig_through(self, url: str, ca: str, name: str) -> Path:
        """A kubeconfig of the administrator that leads through a proxy at `url` with a certificate from `ca` (PEM)."""
        path = self.work / f"{name}.kubeconfig"
        _write_kubeconfig(path, url, ca, self.token)
        return path

    def _write_pki(self) -> None:
        pki = self.work / "pki"
        hosts = ["127.0.0.1", "localhost", "10.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        self._authority.server(hosts).write(pki, "apiserver")
        self.ca_file.write_text(self._authority.pem)
        private, public = signing_key()
        KeyPair(public, private).write(pki, "service-accounts")
        tokens = pki / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(
            "".join(f'{self.tokens[u]},{u},{u},"{",".join(groups)}"\n' for u, groups in self._groups.items())
        )

    def _start_etcd(self, binary: Path) -> str:
        for last in (False, False, True):
            clients, peers = (f"http://127.0.0.1:{port}" for port in free_ports(2))
            token = secrets.token_hex(8)
            # fmt: off
            command = [
                str(binary), "--name=rig", f"--data-dir={self.work / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
                f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=rig={peers}", f"--initial-cluster-token={token}",
            ]
            # fmt: on
            child = self._spawn("etcd", command)
            try:
                child.wait_until(lambda url=clients: _answers(f"{url}/readyz"), 30)  # type: ignore[misc]
                return clients
            except StartError as error:
                child.kill()
                if last or not port_was_taken(error):
                    raise
        raise AssertionError("unreachable")

    def _hang_up(self) -> None:
        connections, self._connections = self._connections, None
        if connections:
            connections.close()

    def _start_first_apiserver(self, binary: Path, etcd: str) -> None:
        pki = self.work / "pki"
        for last in (False, False, True):
            self._hang_up()
            (self._port,) = free_ports(1)
            # fmt: off
            command = [
                str(binary), f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self._port}",
                f"--tls-cert-file={pki / 'apiserver.crt'}", f"--tls-private-key-file={pki / 'apiserver.key'}",
                f"--client-ca-file={self.ca_file}", f"--token-auth-file={pki / 'tokens.csv'}",
                "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki / 'service-accounts.crt'}",
                f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
                "--endpoint-reconciler-type=none",  # "kubernetes" would have to be reachable at a non-loopback address
                "--profiling=false", *self._extra,
            ]
            # fmt: on
            try:
                self._start_apiserver(command)
                _write_kubeconfig(self.kubeconfig, self.url, self._authority.pem, self.token)
                return
            except StartError as error:
                self._processes["kube-apiserver"].kill()
                if last or not port_was_taken(error):
                    raise

    def _start_apiserver(self, command: list[str]) -> None:
        self._spawn("kube-apiserver", command).wait_until(self._ready, 60, interval=0.1)

    def _start_controllers(self, binary: Path) -> None:
        pki = self.work / "pki"
        # fmt: off
        command = [
            str(binary), f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            # No port: nobody asks it, and it is one less to collide on.
            "--secure-port=0", "--profiling=false", f"--root-ca-file={self.ca_file}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            # Not a second client per controller, which would each have to be given its roles first.
            "--use-service-account-credentials=false",
            "--controllers=*,-persistentvolume-attach-detach-controller,-persistentvolume-binder-controller",
        ]
        # fmt: on
        child = self._spawn("kube-controller-manager", command)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        child.wait_until(lambda: self.request("GET", account).status == 200, 30, interval=0.1)

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/readyz", timeout=5).status == 200
        except NOBODY_THERE:
            return False

    def _spawn(self, name: str, command: Sequence[str]) -> Child:
        log = self.work / "logs" / f"{name}.log"
        self._processes[name] = Child(command, log=log, env=SPACIOUS, detached=self._detached)
        return self._processes[name]


def _crds(directory: Path) -> list[dict[str, Any]]:
    files = sorted(directory.glob("*.yaml")) if directory.is_dir() else []
    documents = [document for file in files for document in yaml.load_all(file.read_text(), _LOADER)]
    return [found for found in documents if found and found["kind"] == "CustomResourceDefinition"]


def _answers(url: str) -> bool:
    try:
        return exchange("GET", url, timeout=2).status == 200
    except NOBODY_THERE:
        return False


def _write_kubeconfig(path: Path, url: str, ca: str, login: KeyPair | str) -> None:
    def data(pem: str) -> str:
        return b64encode(pem.encode()).decode()

    if isinstance(login, KeyPair):
        user = {"client-certificate-data": data(login.cert), "client-key-data": data(login.key)}
    else:
        user = {"token": login}
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "rig",
                "clusters": [{"name": "rig", "cluster": {"server": url, "certificate-authority-data": data(ca)}}],
                "users": [{"name": "rig", "user": user}],
                "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
            }
        )
    )
