"""The rig: real servers for tests, benches and the demo, started and stopped from Python.

Nothing here is a mock: the control plane is etcd, kube-apiserver and
kube-controller-manager, the engine is restate-server, the services are served
by hypercorn and the front is a real TLS proxy. Every server listens on
loopback on a free port, is checked to be the one that was started, dies with
its parent and is stopped by its own process id only.
"""

from e2e.rig.certs import Authority, KeyPair
from e2e.rig.controlplane import Cluster, ControlPlane
from e2e.rig.engine import NEWEST, OLDEST, Engine
from e2e.rig.front import Front, Misbehaviour
from e2e.rig.process import Child, StartError
from e2e.rig.services import ServicesProcess
from e2e.rig.wire import Reply

__all__ = [
    "NEWEST",
    "OLDEST",
    "Authority",
    "Child",
    "Cluster",
    "ControlPlane",
    "Engine",
    "Front",
    "KeyPair",
    "Misbehaviour",
    "Reply",
    "ServicesProcess",
    "StartError",
]
