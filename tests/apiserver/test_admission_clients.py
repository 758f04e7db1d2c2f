"""What differs between clients, tried with kubectl itself: nulls, unknown fields, drift, help, columns, waiting."""

import json
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane

CLIENTS = {
    "create": ("create",),
    "create without validation": ("create", "--validate=false"),
    "replace --force": ("replace", "--force"),
    "apply": ("apply",),
    "apply without validation": ("apply", "--validate=false"),
    "server-side apply": ("apply", "--server-side"),
    "server-side apply without validation": ("apply", "--server-side", "--validate=false"),
}
STRIPPING = ("apply", "apply without validation")
"""Client-side apply drops nulls before it asks: only its annotation still knows of them."""


def action(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "InvocationAction",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"action": "Cancel", "target": {"ids": ["inv_1"]}, **spec},
    }


def text(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document)


def spec_of(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = control_plane.get("iact", "probe", "-n", namespace)["spec"]
    return spec


@pytest.mark.parametrize("client", CLIENTS)
def test_client_unknown_field_reaches_the_operator(control_plane: ControlPlane, namespace: str, client: str) -> None:
    target = {"services": ["a"], "oldrThan": "1h", "anyOf": [{"keys": ["1"], "oldrThan": "1h"}]}
    document = action(namespace, target=target, limits={"maxTarget": 1}, notafter="2026-01-01T00:00:00Z")
    control_plane.kubectl(*CLIENTS[client], "-f", "-", input=text(document))
    kept = spec_of(control_plane, namespace)
    assert kept["target"] == target
    assert kept["limits"] == {"maxTarget": 1}
    assert kept["notafter"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("client", [client for client in CLIENTS if client not in STRIPPING])
def test_client_null_filter_is_refused(control_plane: ControlPlane, namespace: str, client: str) -> None:
    document = action(namespace, target={"services": ["a"], "olderThan": None})
    done = control_plane.kubectl(*CLIENTS[client], "-f", "-", input=text(document), check=False)
    assert done.returncode != 0
    assert "olderThan is null: give it a value or leave it out" in done.stderr


@pytest.mark.parametrize("client", STRIPPING)
def test_client_null_filter_is_dropped_by_client_side_apply_and_only_its_annotation_tells(
    control_plane: ControlPlane, namespace: str, client: str
) -> None:
    document = action(namespace, target={"services": ["a"], "olderThan": None})
    control_plane.kubectl(*CLIENTS[client], "-f", "-", input=text(document))
    found = control_plane.get("iact", "probe", "-n", namespace)
    assert found["spec"]["target"] == {"services": ["a"]}
    applied = json.loads(found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert applied["spec"]["target"] == {"services": ["a"], "olderThan": None}


@pytest.mark.parametrize("kind", ["merge", "json"])
def test_client_patch_to_null_is_a_removal_and_so_a_change(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    control_plane.apply(action(namespace, target={"services": ["a"], "olderThan": "1h"}))
    patch = {
        "merge": {"spec": {"target": {"olderThan": None}}},
        "json": [{"op": "replace", "path": "/spec/target/olderThan", "value": None}],
    }[kind]
    done = control_plane.kubectl(
        "patch", "iact", "probe", "-n", namespace, f"--type={kind}", "-p", json.dumps(patch), check=False
    )
    assert done.returncode != 0
    assert "target is immutable after creation" in done.stderr


@pytest.mark.parametrize("client", ["apply", "server-side apply"])
def test_client_applying_twice_changes_nothing(control_plane: ControlPlane, namespace: str, client: str) -> None:
    document = action(
        namespace,
        target={"services": ["b", "a"], "anyOf": [{"handlers": ["h"]}], "not": {"keys": ["k"]}},
        limits={"maxInFlight": 5},
        verification={"timeout": "10m"},
        escalation={"killAfter": "5m"},
    )
    control_plane.kubectl(*CLIENTS[client], "-f", "-", input=text(document))
    generation = control_plane.get("iact", "probe", "-n", namespace)["metadata"]["generation"]
    # The default of status is in the answers and not yet in the store: the first write of anybody puts it there.
    status = ("--subresource=status", "--type=merge", "-p", '{"status": {"observedGeneration": 1}}')
    control_plane.kubectl("patch", "iact", "probe", "-n", namespace, *status)
    first = control_plane.get("iact", "probe", "-n", namespace, "--show-managed-fields")
    control_plane.kubectl(*CLIENTS[client], "-f", "-", input=text(document))
    assert control_plane.get("iact", "probe", "-n", namespace, "--show-managed-fields") == first
    assert first["metadata"]["generation"] == generation
    diff = control_plane.kubectl(
        "diff", *(["--server-side"] if "server-side" in client else []), "-f", "-", input=text(document), check=False
    )
    assert (diff.returncode, diff.stdout) == (0, "")


def test_client_owns_only_what_it_said(control_plane: ControlPlane, namespace: str) -> None:
    """Defaults belong to nobody, so a GitOps tool finds no field of its own changed."""
    control_plane.apply(action(namespace, limits={"maxInFlight": 5}))
    managed = control_plane.get("iact", "probe", "-n", namespace, "--show-managed-fields")["metadata"]["managedFields"]
    owned = managed[0]["fieldsV1"]["f:spec"]
    assert len(managed) == 1
    assert set(owned) == {"f:action", "f:limits", "f:target"}
    assert owned["f:limits"] == {"f:maxInFlight": {}}


def test_client_dry_run_on_the_server_judges_and_keeps_nothing(control_plane: ControlPlane, namespace: str) -> None:
    apply = ("apply", "--server-side", "--dry-run=server", "-f", "-")
    assert "serverside-applied (server dry run)" in control_plane.kubectl(*apply, input=text(action(namespace))).stdout
    wide = control_plane.kubectl(*apply, input=text(action(namespace, target={"olderThan": "1h"})), check=False)
    assert "must narrow by" in wide.stderr
    assert control_plane.get("iact", "-n", namespace)["items"] == []


@pytest.mark.parametrize(
    ("path", "help_text"),
    [
        ("iact", "One operation on a set of durable invocations"),
        ("iact.spec.target", "Which invocations."),
        ("iact.spec.target", "Keys of virtual objects or workflows, literal"),
        ("iact.spec.target.anyOf.services", "a trailing `*` makes a prefix"),
        ("iact.spec.target.not.anyOf.statuses", "Values: `Pending`, `Scheduled`, `Ready`"),
        ("iact.spec.limits.maxTargets", "Default: `1000`"),
        ("iact.spec.escalation", "killAfter\t<string> -required-"),
        ("iact.status.progress", "Invocations that the run answers for"),
        ("reng.spec.guardrails", "Services that are never acted upon"),
        ("reng.spec.auth.bearerTokenSecret", "ops.restate.dev/engine-credential"),
        ("irec.spec", "Who, why, what, when"),
    ],
)
def test_client_explain_is_the_manual(control_plane: ControlPlane, path: str, help_text: str) -> None:
    shown = control_plane.kubectl("explain", path).stdout
    assert help_text in shown.replace("\n    ", " ")
    assert "<no description>" not in shown


def test_client_explain_shows_every_filter(control_plane: ControlPlane) -> None:
    shown = control_plane.kubectl("explain", "iact.spec.target", "--recursive").stdout
    for field in ("ids", "keyPrefixes", "oldestFirst", "anyOf", "not", "restartedFrom", "unmodifiedFor"):
        assert f"{field}\t<" in shown


def test_client_columns_say_what_it_does_and_how_far_it_is(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(action(namespace))
    control_plane.kubectl(
        *("patch", "iact", "probe", "-n", namespace, "--subresource=status", "--type=merge", "-p"),
        json.dumps(
            {
                "status": {
                    "observedGeneration": 1,
                    "phase": "Running",
                    "plan": {"total": 10},
                    "progress": {"total": 10, "done": 4, "summary": "4/10", "failed": 0},
                }
            }
        ),
    )
    header, row = control_plane.kubectl("get", "iact", "-n", namespace).stdout.splitlines()
    assert header.split() == ["NAME", "ACTION", "PHASE", "PROGRESS", "MATCHED", "FAILED", "AGE"]
    assert row.split()[:-1] == ["probe", "Cancel", "Running", "4/10", "10", "0"]
    assert "InvocationAction" not in control_plane.kubectl("get", "restate", "-n", namespace).stderr


def test_client_finds_every_kind_by_its_category(control_plane: ControlPlane) -> None:
    shown = control_plane.kubectl("api-resources", "--categories=restate", "--no-headers").stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert {"invocationactions", "invocationrecords", "restateengines"} <= rows.keys()
    assert [rows[name][0] for name in ("invocationactions", "invocationrecords", "restateengines")] == [
        "iact",
        "irec",
        "reng",
    ]
    assert all(row[2] == "true" for row in rows.values())


def test_client_waits_for_conditions_and_an_unseen_object_is_not_done(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.apply(action(namespace))
    wait = ("wait", "--for=condition=Ready", "iact/probe", "-n", namespace)
    assert control_plane.kubectl(*wait, "--timeout=0s", check=False).returncode != 0
    assert control_plane.get("iact", "probe", "-n", namespace)["status"] == {"observedGeneration": -1}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Succeeded",
        "message": "1 of 1",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    patch = json.dumps({"status": {"observedGeneration": 1, "phase": "Succeeded", "conditions": [condition]}})
    control_plane.kubectl(
        "patch", "iact", "probe", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )
    control_plane.kubectl(*wait, "--timeout=10s")
    control_plane.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "iact/probe", "-n", namespace)


def test_client_record_is_immutable(control_plane: ControlPlane, namespace: str) -> None:
    record = {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "InvocationRecord",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {
            "hashVersion": 1,
            "source": {"kind": "InvocationAction", "namespace": namespace, "name": "probe", "uid": "u"},
            "engine": {"namespace": namespace, "name": "production"},
            "action": "Cancel",
            "startTime": "2026-01-01T00:00:00Z",
            "holder": "operator-0",
            "specification": "{}",
            "plan": {"total": 1, "summary": {"hash": "h"}, "targets": "eJw"},
        },
    }
    control_plane.apply(record)
    record["spec"]["reason"] = "another"  # type: ignore[index]
    done = control_plane.kubectl("apply", "--server-side", "-f", "-", input=text(record), check=False)
    assert "a record is immutable" in done.stderr
