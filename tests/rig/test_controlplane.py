"""The rig's control plane: ours, complete, and the same after a crash."""

import ssl

import pytest

from e2e.rig import ControlPlane
from e2e.rig.wire import exchange


def test_control_plane_serves_only_to_who_trusts_its_own_authority(control_plane: ControlPlane) -> None:
    assert control_plane.request("GET", "/version").expect().json()["gitVersion"].startswith("v1.")
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange("GET", f"{control_plane.url}/version", tls=ssl.create_default_context())


def test_control_plane_unknown_token_is_refused(control_plane: ControlPlane) -> None:
    tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
    reply = exchange("GET", f"{control_plane.url}/api", headers={"authorization": "Bearer wrong"}, tls=tls)
    assert reply.status == 401


def test_control_plane_collects_garbage(control_plane: ControlPlane, namespace: str) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": namespace}}
    control_plane.apply(owner)
    uid = control_plane.get("configmap", "owner", "-n", namespace)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = {"name": "owned", "namespace": namespace, "ownerReferences": [reference]}
    control_plane.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": owned})
    control_plane.kubectl("delete", "configmap", "owner", "-n", namespace)
    control_plane.kubectl("wait", "--for=delete", "configmap/owned", "-n", namespace, "--timeout=30s")


def test_control_plane_other_users_may_do_what_rbac_says(control_plane: ControlPlane, namespace: str) -> None:
    alice = control_plane.credentials("alice", ["developers"])
    verdict = control_plane.kubectl("auth", "can-i", "get", "pods", "-n", namespace, kubeconfig=alice, check=False)
    assert verdict.stdout.strip() == "no"
    role = ("create", "rolebinding", "dev", "--clusterrole=view", "--group=developers", "-n", namespace)
    control_plane.kubectl(*role)
    verdict = control_plane.kubectl("auth", "can-i", "get", "pods", "-n", namespace, kubeconfig=alice)
    assert verdict.stdout.strip() == "yes"


def test_control_plane_crashed_apiserver_comes_back_with_its_data() -> None:
    with ControlPlane(controllers=False, users={"bob": ["developers"]}) as own:
        url, before = own.url, own.processes["kube-apiserver"].pid
        own.request("POST", "/api/v1/namespaces", {"metadata": {"name": "kept"}}).expect()
        own.restart_apiserver()
        assert own.processes["kube-apiserver"].pid != before
        assert own.url == url
        assert own.request("GET", "/api/v1/namespaces/kept").status == 200
        assert own.request("GET", "/api/v1/namespaces/kept", user="bob").status == 403
