"""A cluster with the chart's policies in force and people of every kind in it, for the tests of who may do what."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from e2e.rig import ControlPlane, Reply
from e2e.rig.helm import Helm

SHOP, ELSEWHERE = "shop", "elsewhere"
VERBS = ("approve", "cancel", "kill", "pause", "purge", "purgejournal", "restartasnew", "resume", "setretention")
ROLES = {f"the-{name}": f"invocation-{name}" for name in ("viewer", "responder", "admin")}
"""Users of the chart's ClusterRoles."""
LACKING = {f"lacks-{verb}": verb for verb in VERBS}
"""Users who may do everything but that."""
OPERATOR = "system:serviceaccount:op-system:op-restate-invocation-operator"
REQUESTED_BY, APPROVED_BY = "ops.restate.dev/requested-by", "ops.restate.dev/approved-by"
HASH = "sha256:" + 48 * "a"

WRITING = ["get", "list", "watch", "create", "update", "patch", "delete"]
KINDS = {"InvocationAction": "invocationactions", "RetentionPolicy": "retentionpolicies"}
RESOURCES = [*KINDS.values(), *(f"{plural}/status" for plural in KINDS.values())]

Object = dict[str, Any]

USERS = ("alice", "bob", "writer", "stranger", OPERATOR, *ROLES, *LACKING)


def role(name: str, namespace: str, users: Sequence[str], verbs: Sequence[str]) -> list[Object]:
    """The right to write our kinds and their statuses in a namespace, and `verbs`."""
    rules = [{"apiGroups": ["ops.restate.dev"], "resources": RESOURCES, "verbs": WRITING}]
    if verbs:
        rules.append({"apiGroups": ["ops.restate.dev"], "resources": ["invocationactions"], "verbs": list(verbs)})
    made = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
    return [made | {"metadata": {"name": name, "namespace": namespace}}, bound("Role", name, namespace, users)]


def bound(kind: str, name: str, namespace: str, users: Sequence[str]) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users],
    }


def people() -> list[Object]:
    """Namespaces and rights. `writer` may write everything by RBAC and has no verb."""
    namespaces: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (SHOP, ELSEWHERE)
    ]
    return [
        *namespaces,
        *role("everything", SHOP, ["alice", "bob"], VERBS),
        *role("writing", SHOP, ["writer", OPERATOR], ()),
        # Verbs hold in the namespace where they were given.
        *role("writing", ELSEWHERE, ["alice"], ()),
        *(part for user, verb in LACKING.items() for part in role(user, SHOP, [user], [v for v in VERBS if v != verb])),
        *(bound("ClusterRole", name, SHOP, [user]) for user, name in ROLES.items()),
    ]


@dataclass(frozen=True)
class Policed:
    """Requests of the people."""

    cluster: ControlPlane
    helm: Helm

    @cached_property
    def stamps(self) -> bool:
        """Whether this Kubernetes writes down who asked, by MutatingAdmissionPolicy v1."""
        served = self.cluster.request("GET", "/apis/admissionregistration.k8s.io/v1").expect(200).json()["resources"]
        return "mutatingadmissionpolicies" in {kind["name"] for kind in served}

    def manifest(
        self, spec: Object, kind: str = "InvocationAction", name: str = "probe", namespace: str = SHOP, **metadata: Any
    ) -> Object:
        described = {"name": name, "namespace": namespace, **metadata}
        return {"apiVersion": "ops.restate.dev/v1alpha1", "kind": kind, "metadata": described, "spec": spec}

    def path(self, kind: str = "InvocationAction", name: str = "", namespace: str = SHOP, sub: str = "") -> str:
        parts = ("/apis/ops.restate.dev/v1alpha1/namespaces", namespace, KINDS[kind], name, sub)
        return "/".join(part for part in parts if part)

    def offer(self, user: str, manifest: Object, *, dry_run: bool = True) -> Reply:
        """Create it, or ask whether it could be."""
        path = self.path(manifest["kind"], namespace=manifest["metadata"]["namespace"])
        return self.cluster.request("POST", path + ("?dryRun=All" if dry_run else ""), manifest, user=user)

    def create(self, user: str, manifest: Object) -> Object:
        created: Object = self.offer(user, manifest, dry_run=False).expect(201).json()
        return created

    def create_signed(self, user: str, manifest: Object) -> Object:
        """Create it, with its author's name in it: where that is not stamped, authors may write their own."""
        metadata = manifest["metadata"]
        signature = {} if self.stamps else {REQUESTED_BY: user}
        signed = {**metadata, "annotations": {**metadata.get("annotations", {}), **signature}}
        return self.create(user, {**manifest, "metadata": signed})

    def get(self, name: str = "probe", kind: str = "InvocationAction") -> Object:
        found: Object = self.cluster.request("GET", self.path(kind, name)).expect(200).json()
        return found

    def patch(
        self, user: str, patch: Object, name: str = "probe", *, kind: str = "InvocationAction", sub: str = ""
    ) -> Reply:
        return self.cluster.request("PATCH", self.path(kind, name, sub=sub), patch, user=user)

    def put(self, user: str, obj: Object, *, sub: str = "") -> Reply:
        return self.cluster.request("PUT", self.path(obj["kind"], obj["metadata"]["name"], sub=sub), obj, user=user)

    def end(self, name: str = "probe") -> None:
        """Let its run have ended, as the operator writes it."""
        status = {"status": {"phase": "Succeeded", "observedGeneration": 1}}
        self.patch(OPERATOR, status, name, sub="status").expect(200)

    def delete(self, name: str = "probe", kind: str = "InvocationAction") -> None:
        self.cluster.request("DELETE", self.path(kind, name)).expect(200, 404)

    def wait_until_in_force(self) -> None:
        """The API server takes a moment to see new policies."""
        deadline = time.monotonic() + 60
        cancel = self.manifest({"action": "Cancel", "target": {"ids": ["inv_1"]}})
        policy = self.manifest({"services": ["a"], "retention": {"journal": "1d"}}, "RetentionPolicy")
        wanted = "alice" if self.stamps else None
        while not (
            self.offer("writer", cancel).status == self.offer("writer", policy).status == 403
            and all(annotation(self.offer("alice", made).expect(201).json()) == wanted for made in (cancel, policy))
        ):
            assert time.monotonic() < deadline, "the policies do not come into force"
            time.sleep(0.2)


def annotation(obj: Object, name: str = REQUESTED_BY) -> str | None:
    found: str | None = obj["metadata"].get("annotations", {}).get(name)
    return found


def refusal(reply: Reply) -> str:
    """What a refused request was told."""
    return str(reply.expect(403).json()["message"])
