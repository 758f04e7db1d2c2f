"""What the service account may do, asked of the real authorizer, and what it may not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.rig import ControlPlane
from e2e.rig.helm import Helm

OPS = "ops.restate.dev"
OWN, SERVED, OTHER = "op-system", "shop", "elsewhere"
EVERYWHERE = ""
"""As a namespace: over all of them, or a resource that belongs to none."""


@dataclass(frozen=True)
class Account:
    cluster: ControlPlane
    namespace: str
    name: str = "op-restate-invocation-operator"

    def may(self, verb: str, resource: str, namespace: str = EVERYWHERE, *, name: str = "") -> bool:
        plural, _, subresource = resource.partition("/")
        plural, _, group = plural.partition(".")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{self.namespace}:{self.name}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{self.namespace}",
                    "system:authenticated",
                ],
                "resourceAttributes": attributes,
            },
        }
        answer = self.cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        allowed: bool = answer.expect().json()["status"]["allowed"]
        return allowed


@pytest.fixture(scope="module")
def namespaces(bare_cluster: ControlPlane) -> None:
    bare_cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in (OWN, "narrow-system", SERVED, OTHER)
        ]
    )


@pytest.fixture(scope="module")
def clusterwide(bare_cluster: ControlPlane, installer: Helm, namespaces: None) -> Iterator[Account]:
    """The account of a release that serves the whole cluster."""
    installer.install("op", OWN)
    yield Account(bare_cluster, OWN)
    installer.uninstall("op", OWN)


@pytest.fixture(scope="module")
def narrow(bare_cluster: ControlPlane, installer: Helm, namespaces: None) -> Iterator[Account]:
    """The account of a release of the same name that serves one namespace."""
    values = {"scope": "namespaces", "watchNamespaces": [SERVED], "crds": {"enabled": False}}
    installer.install("op", "narrow-system", values)
    yield Account(bare_cluster, "narrow-system")
    installer.uninstall("op", "narrow-system")


READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")

CLUSTERWIDE_MAY = [
    (READ, f"invocationactions.{OPS}", EVERYWHERE),
    (("delete",), f"invocationactions.{OPS}", SERVED),
    (("patch",), f"invocationactions.{OPS}/status", SERVED),
    ((*READ, "patch"), f"retentionpolicies.{OPS}", SERVED),
    (("patch",), f"retentionpolicies.{OPS}/status", SERVED),
    (READ, f"restateengines.{OPS}", EVERYWHERE),
    (("patch",), f"restateengines.{OPS}/status", SERVED),
    (("create",), "events", SERVED),
    (("get", "create", "delete"), "configmaps", SERVED),
    (("get",), "secrets", SERVED),
    (("get",), "namespaces", EVERYWHERE),
    (READ, "customresourcedefinitions.apiextensions.k8s.io", EVERYWHERE),
    (("get",), "restatecloudenvironments.restate.dev", EVERYWHERE),
    (("get", "list", "create", "delete"), f"invocationrecords.{OPS}", OWN),
    (("update",), f"invocationrecords.{OPS}/status", OWN),
    (("get", "create", "delete"), "configmaps", OWN),
    (("create",), "leases.coordination.k8s.io", OWN),
]
NEVER = [
    # A specification is the users' alone; what one of them gave a TTL is deleted singly.
    (("create", "update", "patch", "deletecollection"), f"invocationactions.{OPS}", SERVED),
    (WRITE, f"restateengines.{OPS}", SERVED),
    (("create", "update", "delete", "deletecollection"), f"retentionpolicies.{OPS}", SERVED),
    # Credentials are read by name: no list tells which there are, nothing changes them.
    (("list", "watch", *WRITE), "secrets", SERVED),
    (("list", "watch", *WRITE), "secrets", OWN),
    # The audit trail is the operator's own namespace's.
    ((*READ, *WRITE), f"invocationrecords.{OPS}", SERVED),
    (("list", "watch"), f"invocationrecords.{OPS}", EVERYWHERE),
    (("update", "patch", "deletecollection"), f"invocationrecords.{OPS}", OWN),
    # Planned sets are immutable.
    (("list", "watch", "update", "patch", "deletecollection"), "configmaps", SERVED),
    # Other Leases than the release's own, by whose right nobody can be kept from leading.
    (("get", "list", "watch", "update", "patch", "delete"), "leases.coordination.k8s.io", OWN),
    ((*READ, *WRITE), "leases.coordination.k8s.io", SERVED),
    # Nothing that leads to more rights or to other people's work.
    ((*WRITE, "escalate", "bind"), "clusterroles.rbac.authorization.k8s.io", EVERYWHERE),
    ((*WRITE, "escalate", "bind"), "roles.rbac.authorization.k8s.io", OWN),
    (WRITE, "rolebindings.rbac.authorization.k8s.io", OWN),
    (("impersonate",), "users", EVERYWHERE),
    (("impersonate",), "serviceaccounts", OWN),
    (("create",), "serviceaccounts/token", OWN),
    ((*READ, *WRITE), "pods", OWN),
    (("create",), "pods/exec", OWN),
    ((*READ, *WRITE), "deployments.apps", OWN),
    (WRITE, "namespaces", EVERYWHERE),
    (WRITE, "customresourcedefinitions.apiextensions.k8s.io", EVERYWHERE),
    (("list", "watch", *WRITE), "restatecloudenvironments.restate.dev", EVERYWHERE),
    ((*READ, *WRITE), "validatingwebhookconfigurations.admissionregistration.k8s.io", EVERYWHERE),
    (READ, "nodes", EVERYWHERE),
]
NARROW_MAY = [
    (READ, f"invocationactions.{OPS}", SERVED),
    (("delete",), f"invocationactions.{OPS}", SERVED),
    (("patch",), f"invocationactions.{OPS}/status", SERVED),
    ((*READ, "patch"), f"retentionpolicies.{OPS}", SERVED),
    (("patch",), f"retentionpolicies.{OPS}/status", SERVED),
    (READ, f"restateengines.{OPS}", SERVED),
    (("patch",), f"restateengines.{OPS}/status", SERVED),
    (("create",), "events", SERVED),
    (("get", "create", "delete"), "configmaps", SERVED),
    (("get",), "secrets", SERVED),
    # The engine named `default` beside the operator.
    (READ, f"restateengines.{OPS}", "narrow-system"),
    (("patch",), f"restateengines.{OPS}/status", "narrow-system"),
    (("create",), "events", "narrow-system"),
    (("get",), "secrets", "narrow-system"),
    (("get", "list", "create", "delete"), f"invocationrecords.{OPS}", "narrow-system"),
    (("update",), f"invocationrecords.{OPS}/status", "narrow-system"),
    (("get", "create", "delete"), "configmaps", "narrow-system"),
    (("get",), "restatecloudenvironments.restate.dev", EVERYWHERE),
    (("create",), "leases.coordination.k8s.io", "narrow-system"),
]
NARROW_NEVER = [
    (READ, f"invocationactions.{OPS}", EVERYWHERE),
    ((*READ, "delete"), f"invocationactions.{OPS}", OTHER),
    ((*READ, "patch"), f"retentionpolicies.{OPS}", OTHER),
    (READ, f"restateengines.{OPS}", OTHER),
    (("patch",), f"invocationactions.{OPS}/status", OTHER),
    (("create",), "events", OTHER),
    (("get",), "secrets", OTHER),
    (("get",), "secrets", OWN),
    (("get", "create", "delete"), "configmaps", OTHER),
    (("get", "create", "delete"), "configmaps", OWN),
    (READ, "namespaces", EVERYWHERE),
    (READ, "customresourcedefinitions.apiextensions.k8s.io", EVERYWHERE),
    (READ, f"invocationrecords.{OPS}", OWN),
]

Row = tuple[tuple[str, ...], str, str]


def answers(account: Account, rows: list[Row]) -> dict[str, bool]:
    return {
        f"{verb} {resource} in {namespace or 'all namespaces'}": account.may(verb, resource, namespace)
        for verbs, resource, namespace in rows
        for verb in verbs
    }


def of(found: dict[str, bool], *, allowed: bool) -> list[str]:
    return [question for question, answer in found.items() if answer is allowed]


def test_rights_clusterwide_are_enough(clusterwide: Account) -> None:
    assert of(answers(clusterwide, CLUSTERWIDE_MAY), allowed=False) == []


def test_rights_to_lead_are_those_to_one_lease(clusterwide: Account, narrow: Account) -> None:
    for account in (clusterwide, narrow):
        for verb, allowed in (("get", True), ("update", True), ("delete", False), ("patch", False)):
            may = account.may(verb, "leases.coordination.k8s.io", account.namespace, name=account.name)
            assert may is allowed, verb


def test_rights_clusterwide_are_no_more(clusterwide: Account) -> None:
    assert of(answers(clusterwide, NEVER), allowed=True) == []


def test_rights_in_one_namespace_are_enough(narrow: Account) -> None:
    assert of(answers(narrow, NARROW_MAY), allowed=False) == []
    assert narrow.may("get", "namespaces", SERVED, name=SERVED), "its labels"
    crds = "customresourcedefinitions.apiextensions.k8s.io"
    assert narrow.may("get", crds, name=f"invocationactions.{OPS}")
    assert narrow.may("get", crds, name=f"retentionpolicies.{OPS}")


def test_rights_in_one_namespace_are_no_more(narrow: Account) -> None:
    assert of(answers(narrow, [*NEVER, *NARROW_NEVER]), allowed=True) == []
    assert not narrow.may("get", "customresourcedefinitions.apiextensions.k8s.io", name="someones.example.com")


SCOPES = [{}, {"scope": "namespaces", "watchNamespaces": [SERVED], "trustedEngineNamespaces": [OTHER]}]


@pytest.mark.parametrize("values", SCOPES)
def test_rights_are_written_out(helm: Helm, values: dict[str, Any]) -> None:
    rules = [rule for obj in helm.template(values) for rule in obj.get("rules", ())]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "nonResourceURLs" not in rule
