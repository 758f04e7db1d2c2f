"""The model API server against the real one: what a lock, a lease and a status are built on."""

import secrets
from typing import Any

import pytest

from tests.conformance.conftest import AnyApiServer, Row

GROUP = "/apis/ops.restate.dev/v1alpha1"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.fixture
def namespace(any_api: AnyApiServer) -> str:
    name = f"conformance-{secrets.token_hex(4)}"
    code, _ = any_api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert code == 201
    return name


def actions(namespace: str, *more: str) -> str:
    return "/".join((f"{GROUP}/namespaces/{namespace}/invocationactions", *more))


def maps(namespace: str, *more: str) -> str:
    return "/".join((f"/api/v1/namespaces/{namespace}/configmaps", *more))


def action(name: str = "a", **metadata: Any) -> Row:
    spec = {"action": "Cancel", "target": {"services": ["Svc"]}, "engineRef": {"name": "e"}}
    return {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "InvocationAction",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def create(api: AnyApiServer, namespace: str, name: str = "a", **metadata: Any) -> Row:
    code, made = api.ask("POST", actions(namespace), action(name, **metadata))
    assert code == 201, made
    return made


def version(obj: Row) -> int:
    return int(obj["metadata"]["resourceVersion"])


def test_create_gives_an_identity_and_an_unseen_status(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    assert made["metadata"]["namespace"] == namespace
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    assert made["status"] == {"observedGeneration": -1}
    code, found = any_api.ask("GET", actions(namespace, "a"))
    assert (code, version(found)) == (200, version(made))


def test_create_of_a_name_that_is_taken_is_refused(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    code, answer = any_api.ask("POST", actions(namespace), action())
    assert (code, answer["reason"]) == (409, "AlreadyExists")
    assert version(any_api.ask("GET", actions(namespace, "a"))[1]) == version(made)


def test_created_again_after_a_deletion_is_another_object(any_api: AnyApiServer, namespace: str) -> None:
    first = create(any_api, namespace)
    assert any_api.ask("DELETE", actions(namespace, "a"))[0] == 200
    second = create(any_api, namespace)
    assert second["metadata"]["uid"][:8] != first["metadata"]["uid"][:8], "names are made of that"
    assert version(second) > version(first)
    assert second["status"] == {"observedGeneration": -1}


def test_lease_has_one_holder_by_its_version(any_api: AnyApiServer, namespace: str) -> None:
    """What an election is built on: one creation succeeds, and one write of each version."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def held(by: str) -> Row:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "lead", "namespace": namespace},
            "spec": {"holderIdentity": by, "leaseDurationSeconds": 10, "leaseTransitions": 0},
        }

    code, made = any_api.ask("POST", path, held("a"))
    assert code == 201
    code, answer = any_api.ask("POST", path, held("b"))
    assert (code, answer["reason"]) == (409, "AlreadyExists")
    code, renewed = any_api.ask("PUT", f"{path}/lead", {**made, "spec": {**made["spec"], "leaseTransitions": 1}})
    assert (code, renewed["spec"]["holderIdentity"]) == (200, "a")
    assert version(renewed) > version(made)
    code, answer = any_api.ask("PUT", f"{path}/lead", {**made, "spec": held("b")["spec"]})
    assert (code, answer["reason"]) == (409, "Conflict")
    code, found = any_api.ask("GET", f"{path}/lead")
    assert (code, found["spec"], version(found)) == (200, renewed["spec"], version(renewed))
    assert any_api.ask("DELETE", f"{path}/lead")[0] == 200
    code, again = any_api.ask("POST", path, held("b"))
    assert (code, again["metadata"]["uid"] != made["metadata"]["uid"]) == (201, True)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_what_is_not_there_is_not_found(any_api: AnyApiServer, namespace: str, method: str) -> None:
    code, answer = any_api.ask(method, actions(namespace, "nothing"), {} if method == "PATCH" else None)
    assert (code, answer["reason"]) == (404, "NotFound")


def test_status_write_changes_neither_spec_nor_generation(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    body = {**made, "spec": {**made["spec"], "suspend": True}, "status": {"observedGeneration": 1, "phase": "Running"}}
    code, written = any_api.ask("PUT", actions(namespace, "a", "status"), body)
    assert code == 200
    assert written["spec"] == made["spec"]
    assert written["metadata"]["generation"] == 1
    assert written["status"]["phase"] == "Running"
    assert version(written) > version(made)


def test_spec_write_changes_the_generation_and_not_the_status(any_api: AnyApiServer, namespace: str) -> None:
    create(any_api, namespace)
    patch = {"spec": {"suspend": True}, "status": {"phase": "Running"}}
    code, written = any_api.ask("PATCH", actions(namespace, "a"), patch)
    assert code == 200
    assert written["spec"]["suspend"] is True
    assert written["metadata"]["generation"] == 2
    assert written["status"] == {"observedGeneration": -1}


def test_write_of_metadata_leaves_the_generation(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    code, written = any_api.ask("PATCH", actions(namespace, "a"), {"metadata": {"labels": {"x": "y"}}})
    assert (code, written["metadata"]["generation"]) == (200, 1)
    assert written["metadata"]["labels"] == {"x": "y"}
    assert version(written) > version(made)


@pytest.mark.parametrize("subresource", [(), ("status",)])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_write_with_an_older_version_conflicts(
    any_api: AnyApiServer, namespace: str, method: str, subresource: tuple[str, ...]
) -> None:
    made = create(any_api, namespace)
    assert any_api.ask("PATCH", actions(namespace, "a"), {"spec": {"suspend": True}})[0] == 200
    body = {**made, "status": {"observedGeneration": 1}}
    if method == "PATCH":
        body = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "status": {"phase": "Running"}}
    code, answer = any_api.ask(method, actions(namespace, "a", *subresource), body)
    assert (code, answer["reason"]) == (409, "Conflict")


def test_replacement_without_a_version_is_refused(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    body = {**made, "metadata": {"name": "a", "namespace": namespace}, "status": {"observedGeneration": -1}}
    code, answer = any_api.ask("PUT", actions(namespace, "a", "status"), body)
    assert (code, answer["reason"]) == (422, "Invalid")


def test_uid_in_a_patch_of_the_status_is_no_precondition(any_api: AnyApiServer, namespace: str) -> None:
    """A status that is meant for one object lands on its successor, unless the patch carries a version."""
    first = create(any_api, namespace)
    any_api.ask("DELETE", actions(namespace, "a"))
    second = create(any_api, namespace)
    patch = {"metadata": {"uid": first["metadata"]["uid"]}, "status": {"phase": "Running"}}
    code, written = any_api.ask("PATCH", actions(namespace, "a", "status"), patch)
    assert (code, written["status"]["phase"]) == (200, "Running")
    assert written["metadata"]["uid"] == second["metadata"]["uid"]
    patch["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    code, answer = any_api.ask("PATCH", actions(namespace, "a", "status"), patch)
    assert (code, answer["reason"]) == (409, "Conflict")


def test_merge_patch_removes_what_is_null(any_api: AnyApiServer, namespace: str) -> None:
    create(any_api, namespace)
    path = actions(namespace, "a", "status")
    any_api.ask("PATCH", path, {"status": {"phase": "Running", "progress": {"total": 3, "done": 1}}})
    code, written = any_api.ask("PATCH", path, {"status": {"phase": None, "progress": {"done": 2}}})
    assert code == 200
    assert "phase" not in written["status"]
    assert (written["status"]["progress"]["total"], written["status"]["progress"]["done"]) == (3, 2)


def test_write_that_changes_nothing_is_no_new_version(any_api: AnyApiServer, namespace: str) -> None:
    create(any_api, namespace)
    path, patch = actions(namespace, "a", "status"), {"status": {"phase": "Running"}}
    code, first = any_api.ask("PATCH", path, patch)
    assert code == 200
    code, second = any_api.ask("PATCH", path, patch)
    assert (code, version(second)) == (200, version(first))


def test_delete_with_an_older_version_conflicts(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    any_api.ask("PATCH", actions(namespace, "a"), {"spec": {"suspend": True}})
    options = {"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    code, answer = any_api.ask("DELETE", actions(namespace, "a"), options)
    assert (code, answer["reason"]) == (409, "Conflict")
    assert any_api.ask("GET", actions(namespace, "a"))[0] == 200


def test_finalizer_keeps_what_is_deleted_until_it_is_taken_off(any_api: AnyApiServer, namespace: str) -> None:
    create(any_api, namespace, finalizers=["example.org/held"])
    assert any_api.ask("DELETE", actions(namespace, "a"))[0] == 200
    code, found = any_api.ask("GET", actions(namespace, "a"))
    assert code == 200
    assert found["metadata"]["deletionTimestamp"]
    assert any_api.ask("PATCH", actions(namespace, "a"), {"metadata": {"finalizers": None}})[0] == 200
    assert any_api.ask("GET", actions(namespace, "a"))[0] == 404


def test_list_comes_in_pages_and_by_labels(any_api: AnyApiServer, namespace: str) -> None:
    for name in ("a", "b", "c"):
        create(any_api, namespace, name, labels={"which": name, "all": "yes"})
    code, page = any_api.ask("GET", actions(namespace) + "?limit=2")
    assert code == 200
    assert [item["metadata"]["name"] for item in page["items"]] == ["a", "b"]
    code, rest = any_api.ask("GET", actions(namespace) + f"?limit=2&continue={page['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert not rest["metadata"].get("continue")
    code, found = any_api.ask("GET", actions(namespace) + "?labelSelector=all%3Dyes,which%3Db")
    assert [item["metadata"]["name"] for item in found["items"]] == ["b"]


def test_metadata_alone_comes_without_spec(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    code, found = any_api.ask("GET", actions(namespace, "a"), accept=METADATA_ONLY)
    assert code == 200
    assert found["kind"] == "PartialObjectMetadata"
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert "spec" not in found


def test_crd_shows_the_revision_of_its_schema(any_api: AnyApiServer) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/invocationactions.ops.restate.dev"
    code, found = any_api.ask("GET", path, accept=METADATA_ONLY)
    assert code == 200
    assert found["metadata"]["annotations"]["ops.restate.dev/schema-revision"].isdigit()


def test_served_kinds_are_those_of_the_group(any_api: AnyApiServer) -> None:
    code, groups = any_api.ask("GET", "/apis")
    versions = {v["groupVersion"] for group in groups["groups"] for v in group["versions"]}
    assert (code, "ops.restate.dev/v1alpha1" in versions) == (200, True)
    code, served = any_api.ask("GET", GROUP)
    assert {"invocationactions", "invocationrecords", "restateengines"} <= {r["name"] for r in served["resources"]}


def test_owner_does_not_hold_a_deletion_up(any_api: AnyApiServer, namespace: str) -> None:
    made = create(any_api, namespace)
    owner = {"apiVersion": made["apiVersion"], "kind": made["kind"], "name": "a", "uid": made["metadata"]["uid"]}
    body = {"metadata": {"name": "chunk", "ownerReferences": [{**owner, "controller": True}]}, "data": {"targets": "x"}}
    code, chunk = any_api.ask("POST", maps(namespace), {"apiVersion": "v1", "kind": "ConfigMap", **body})
    assert code == 201, chunk
    assert any_api.ask("DELETE", actions(namespace, "a"), {"propagationPolicy": "Background"})[0] == 200
    assert any_api.ask("GET", actions(namespace, "a"))[0] == 404
    assert any_api.ask("DELETE", maps(namespace, "chunk"))[0] in (200, 404)  # the collector may have been faster


def test_watch_tells_every_change_in_its_order(any_api: AnyApiServer, namespace: str) -> None:
    start = any_api.ask("GET", actions(namespace))[1]["metadata"]["resourceVersion"]
    create(any_api, namespace)
    any_api.ask("PATCH", actions(namespace, "a"), {"spec": {"suspend": True}})
    any_api.ask("PATCH", actions(namespace, "a", "status"), {"status": {"phase": "Running"}})
    any_api.ask("PATCH", actions(namespace, "a", "status"), {"status": {"phase": "Running"}})  # changes nothing
    create(any_api, namespace, "b")
    any_api.ask("DELETE", actions(namespace, "a"))
    told = any_api.watched(actions(namespace), start)
    assert [(kind, obj["metadata"]["name"]) for kind, obj in told] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("MODIFIED", "a"),
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]
    assert [version(obj) for _, obj in told] == sorted({version(obj) for _, obj in told})
    assert told[-1][1]["status"]["phase"] == "Running", "a deletion shows the last state"
