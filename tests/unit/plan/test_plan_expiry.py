"""When a TTL ends, and whom a finished object belongs to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.plan.expiry import expires_at, gitops_owner

ENDED = "2026-01-01T10:00:00Z"
LATER = "2026-01-01T10:00:07Z"
BEGAN = datetime(2026, 1, 1, 10, tzinfo=UTC)
WELL = [{"type": "Ready", "status": "True", "lastTransitionTime": ENDED}]
BADLY = [
    {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T09:00:00Z"},
    {"type": "Stalled", "status": "True", "lastTransitionTime": ENDED},
]
WORKING = [
    {"type": "Ready", "status": "False", "lastTransitionTime": ENDED},
    {"type": "Reconciling", "status": "True", "lastTransitionTime": ENDED},
]
BOTH = {"ttlSecondsAfterFinished": 60, "ttlSecondsAfterFailed": 600}


@pytest.mark.parametrize(
    ("spec", "status", "after"),
    [
        pytest.param({}, {"conditions": WELL}, None, id="no TTL"),
        pytest.param(BOTH, {"conditions": WELL}, 60, id="ended well"),
        pytest.param(BOTH, {"conditions": BADLY}, 600, id="ended badly, not counted from the beginning"),
        pytest.param({"ttlSecondsAfterFinished": 60}, {"conditions": BADLY}, 60, id="finished is badly too"),
        pytest.param({"ttlSecondsAfterFailed": 600}, {"conditions": WELL}, None, id="failed is not well"),
        pytest.param({"ttlSecondsAfterFinished": 0}, {"conditions": WELL}, 0, id="at once"),
        pytest.param(BOTH, {"conditions": BADLY, "completionTime": LATER}, 607, id="failed again, still stalled"),
        pytest.param(BOTH, {"conditions": WELL, "completionTime": "2026-01-01T09:59:00Z"}, 60, id="another clock"),
        pytest.param(BOTH, {"conditions": WORKING}, None, id="not ended"),
        pytest.param(BOTH, {}, None, id="not seen yet"),
    ],
)
def test_ttl_ends_after_the_run_did(spec: dict[str, Any], status: dict[str, Any], after: int | None) -> None:
    expected = None if after is None else BEGAN + timedelta(seconds=after)
    assert expires_at({"metadata": {}, "spec": spec, "status": status}) == expected


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        pytest.param({}, None, id="nobody's"),
        pytest.param({"labels": {"app.kubernetes.io/instance": "shop"}}, None, id="a label that everybody uses"),
        pytest.param(
            {"labels": {"app.kubernetes.io/managed-by": "kustomize"}}, None, id="a tool that recreates nothing"
        ),
        pytest.param({"labels": {"argocd.argoproj.io/instance": "shop"}}, "Argo CD", id="Argo CD's label"),
        pytest.param({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD", id="Argo CD's annotation"),
        pytest.param({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD", id="what Argo CD wrote"),
        pytest.param({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}, "Flux", id="a Kustomization"),
        pytest.param({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}}, "Flux", id="a HelmRelease"),
        pytest.param({"managedFields": [{"manager": "kustomize-controller"}]}, "Flux", id="what Flux wrote"),
        pytest.param({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm", id="Helm's label"),
        pytest.param({"annotations": {"meta.helm.sh/release-name": "shop"}}, "Helm", id="Helm's annotation"),
        pytest.param({"managedFields": [{"manager": "Helm"}]}, "Helm", id="what Helm 3 wrote"),
        pytest.param(
            {"managedFields": [{"manager": "kubectl-client-side-apply"}, {"manager": "invocation-operator"}]},
            None,
            id="by hand",
        ),
    ],
)
def test_owner_is_told_by_what_the_tools_leave(metadata: dict[str, Any], owner: str | None) -> None:
    assert gitops_owner(metadata) == owner
