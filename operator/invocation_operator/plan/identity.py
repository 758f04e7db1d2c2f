"""What makes two runs the same run: the canonical form of a specification, and the record's name made from it.

The record named here is the lock behind *once*. Its canonical form drops defaults (a field added later with a default
changes nothing) and mutable fields, normalises durations and times, and sorts sets. ``HASH_VERSION`` is part of the
name; it must never change for specifications that exist.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from invocation_operator.api.v1alpha1.action import ActionSpec, RunPolicy
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.target.canonical import canonical as canonical_target
from invocation_operator.values.duration import format_duration, parse_duration
from invocation_operator.values.times import format_time

HASH_VERSION = 1
"""Version of the canonical form. A record with an unknown version fails closed: nothing is executed."""

_DURATIONS: dict[tuple[str, ...], str | None] = {
    ("timeout",): None,
    ("verification", "timeout"): "5m",
    ("verification", "repeatAfter"): "30s",
    ("escalation", "killAfter"): None,
    ("rollout", "soak"): "1m",
    ("approval", "planMaxAge"): "1h",
}
"""Duration fields and their defaults in version 1 of the canonical form: another spelling of the default is the
default, and a default that changes later must not change what exists."""
_MUTABLE: tuple[tuple[str, ...], ...] = (
    ("suspend",),
    ("mode",),
    ("approvedPlan",),
    ("ttlSecondsAfterFinished",),
    ("ttlSecondsAfterFailed",),
    ("limits", "maxInFlight"),
    ("limits", "operationsPerSecond"),
)
_OPTIONS = ("resume", "restart")
"""Blocks that say nothing when they hold nothing but defaults."""
_SEPARATE: tuple[tuple[str, ...], ...] = (("runId",), ("engineRef",), ("target",))


def canonical_spec(spec: ActionSpec) -> dict[str, Any]:
    """Return the canonical form of ``spec`` as plain JSON values, without ``runId`` and the engine."""
    form: dict[str, Any] = spec.model_dump(by_alias=True, exclude_defaults=True, exclude={"target", "not_after"})
    form = json.loads(json.dumps(form))
    for path in _MUTABLE + _SEPARATE:
        _drop(form, path)
    for path, default in _DURATIONS.items():
        _normalise(form, path, default)
    for block in _OPTIONS:
        if form.get(block) == {}:
            del form[block]
    if spec.not_after is not None:
        form["notAfter"] = format_time(spec.not_after)
    form["target"] = canonical_target(spec.target)
    return form


def canonical_json(form: dict[str, Any]) -> str:
    """Return ``form`` as the one JSON text that is hashed."""
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def record_name(spec: ActionSpec, *, engine: str, namespace: str, name: str, uid: str) -> str:
    """Return the name of the InvocationRecord for a run.

    ``engine`` is ``namespace/name`` of the resolved RestateEngine. It is not its UID: an engine or an action that a
    GitOps tool deletes and creates again is still the same. Only ``runPolicy: OncePerObject`` binds to the UID.
    """
    parts = {
        "version": HASH_VERSION,
        "engine": engine,
        "namespace": namespace,
        "name": name,
        "runId": spec.run_id or "",
        "spec": canonical_spec(spec),
    }
    if spec.run_policy is RunPolicy.ONCE_PER_OBJECT:
        parts["uid"] = uid
    digest = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    return f"iact-{digest[:48]}"


def plan_place(engine: EngineIdentity, run_id: str | None) -> str:
    """Return what a plan's hash binds beside specification and set: the RestateEngine, the cluster behind it, the run.

    The run, so that an approval that was left behind by an earlier one never is one of the next.
    """
    parts = {"namespace": engine.namespace, "name": engine.name, "cluster": engine.cluster_name, "runId": run_id}
    return canonical_json(parts)


def sweep_record_name(*, engine: str, namespace: str, name: str, sweep: str, once: str) -> str:
    """Return the name of the InvocationRecord for one run of a policy's sweep. ``once`` is its tick, or the request
    that asked for it: it happens once for each, whatever the policy says by then.
    """
    parts = {
        "version": HASH_VERSION, "engine": engine, "namespace": namespace, "name": name, "sweep": sweep, "once": once,
    }  # fmt: skip
    digest = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    return f"rpol-{digest[:48]}"


def plan_hash(engine: str, form: dict[str, Any], identities: Iterable[tuple[str, str]]) -> str:
    """Return the hash that binds engine, canonical specification and the planned ``(id, created_at)`` pairs.

    ``engine`` is the ``plan_place``.
    """
    return plan_hash_of_sorted(engine, form, sorted(identities))


def plan_hash_of_sorted(engine: str, form: dict[str, Any], identities: Iterable[tuple[str, str]]) -> str:
    """As ``plan_hash``, of pairs that come in their order, and no two with one id: a million of them need no memory."""
    digest = hashlib.sha256()
    digest.update(f"{HASH_VERSION}\n{engine}\n{canonical_json(form)}\n".encode())
    for invocation_id, created_at in identities:
        digest.update(f"{invocation_id} {created_at}\n".encode())
    return f"sha256:{digest.hexdigest()[:48]}"


def _drop(form: dict[str, Any], path: tuple[str, ...]) -> None:
    holder: Any = form
    for step in path[:-1]:
        holder = holder.get(step)
        if not isinstance(holder, dict):
            return
    holder.pop(path[-1], None)
    if not holder and len(path) > 1:
        # A block that held nothing but mutable fields must hash like an absent one.
        _drop(form, path[:-1])


def _normalise(form: dict[str, Any], path: tuple[str, ...], default: str | None) -> None:
    holder: Any = form
    for step in path[:-1]:
        holder = holder.get(step)
        if not isinstance(holder, dict):
            return
    if path[-1] not in holder:
        return
    length = parse_duration(holder[path[-1]])
    if default is not None and length == parse_duration(default):
        _drop(form, path)
    else:
        holder[path[-1]] = format_duration(length)
