"""When a finished object may be deleted by its TTL, and who owns it: what a GitOps tool owns, it would create again.

The record keeps the second object from running, but not from being there: it would say AlreadyExecuted for ever after,
in the place of the outcome that people look for. Pure; the reconciler that deletes passes the objects.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Object = Mapping[str, Any]

_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "helm.sh/chart": "Helm",
}
_ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/installation-id": "Argo CD",
    "meta.helm.sh/release-name": "Helm",
}
_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
}
"""Field managers, in lower case (Helm 3 writes as ``helm`` or ``Helm``)."""
_MANAGED_BY = "app.kubernetes.io/managed-by"


def gitops_owner(metadata: Object) -> str | None:
    """Return the tool that owns the object with ``metadata``: Argo CD, Flux or Helm; None when none of them does.

    Told by their labels and annotations, or by who wrote its fields: Argo CD's label may be set to any name.
    """
    labels: Object = metadata.get("labels") or {}
    annotations: Object = metadata.get("annotations") or {}
    managers = (str(entry.get("manager", "")).lower() for entry in metadata.get("managedFields") or ())
    found = [
        *_named(_LABELS, labels),
        *_named(_ANNOTATIONS, annotations),
        *_named(_MANAGERS, managers),
        *(["Helm"] if str(labels.get(_MANAGED_BY, "")).lower() == "helm" else []),
    ]
    return found[0] if found else None


def expires_at(obj: Object) -> datetime | None:
    """Return when the TTL of a finished ``obj`` ends; None without a TTL that fits how it ended.

    Counts from the end of this very run: from its last condition's transition, or its completion time if that is later
    (one failure after another leaves the condition as it was).
    """
    spec: Object = obj.get("spec") or {}
    status: Object = obj.get("status") or {}
    conditions: dict[str, Object] = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
    seconds = spec.get("ttlSecondsAfterFinished")
    if "Ready" in conditions:
        told = conditions["Ready"]
    elif "Stalled" in conditions:
        told, seconds = conditions["Stalled"], spec.get("ttlSecondsAfterFailed", seconds)
    else:
        return None
    told_at, completed_at = told.get("lastTransitionTime"), status.get("completionTime")
    times = [_time(text) for text in (told_at, completed_at) if text]
    if not isinstance(seconds, int) or not times:
        return None
    return max(times) + timedelta(seconds=seconds)


def _named(known: Mapping[str, str], present: Iterable[str]) -> list[str]:
    return [known[name] for name in present if name in known]


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
