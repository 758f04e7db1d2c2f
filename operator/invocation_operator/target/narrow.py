"""What is wrong with a target: refused before anything is asked of the engine.

The CRD's CEL rules say most of this at admission already; the operator says it again, because a target that widens by
accident acts on everything, and CRDs can be older than the operator. Called by the reconcilers of every kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.target import InvocationStatus, Leaf, Target
from invocation_operator.values.duration import DurationError, parse_duration
from invocation_operator.values.times import in_utc

NARROWING = (
    "ids",
    "services",
    "keys",
    "keyPrefixes",
    "deployments",
    "invokedBy",
    "idempotencyKeys",
    "scopes",
    "restartedFrom",
)
"""Filters that keep a target from reaching everything; the others describe, but may describe everything."""

_ALIASES = {field.alias or name: name for name, field in Target.model_fields.items()}
_STRUCTURE = frozenset({"all", "oldest_first", "limit"})


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` is relative to the target (empty: the target itself); ``advice`` says what to write instead."""

    path: str
    advice: str

    @property
    def message(self) -> str:
        """Both in a sentence."""
        return f"target.{self.path}: {self.advice}" if self.path else f"target: {self.advice}"


def problems(target: Target, default_statuses: frozenset[InvocationStatus] | None = None) -> list[Problem]:
    """Return everything that is wrong with ``target``; nothing may be done while there is something.

    ``default_statuses`` are those that hold when the target names none, where they are known.
    """
    found = list(_leaf("", target))
    for path, leaf in _branches(target):
        if not _says_something(leaf):
            found.append(Problem(path, "an empty branch means every invocation; give it a filter or remove it"))
        found += _leaf(f"{path}.", leaf)
    found += _retries(target, default_statuses)
    found += _narrowing(target)
    return found


def narrows(target: Target) -> bool:
    """Whether ``target`` reaches only what it names: by itself, or in each branch of ``anyOf``."""
    return _names_something(target) or bool(target.any_of and all(_names_something(branch) for branch in target.any_of))


def named_statuses(target: Target) -> frozenset[InvocationStatus]:
    """Return the statuses that ``target`` asks for, its branches included and its exclusions not."""
    return frozenset(status for leaf in (target, *(target.any_of or ())) for status in leaf.statuses or ())


def _branches(target: Target) -> Iterator[tuple[str, Leaf]]:
    for n, branch in enumerate(target.any_of or ()):
        yield f"anyOf[{n}]", branch
    if target.not_ is not None:
        yield "not", target.not_
        for n, branch in enumerate(target.not_.any_of or ()):
            yield f"not.anyOf[{n}]", branch


def _names_something(leaf: Leaf) -> bool:
    return any(getattr(leaf, _ALIASES[name], None) is not None for name in NARROWING)


def _says_something(leaf: Leaf) -> bool:
    values = {name: getattr(leaf, name) for name in type(leaf).model_fields if name not in _STRUCTURE}
    return any(value is not None and value is not False for value in values.values())


def _leaf(prefix: str, leaf: Leaf) -> Iterator[Problem]:
    for name, field in type(leaf).model_fields.items():
        path, value = f"{prefix}{field.alias or name}", getattr(leaf, name)
        if isinstance(value, list) and not value:
            yield Problem(path, "an empty list matches nothing or everything; name what is meant, or remove the field")
        if value == "" or (isinstance(value, list) and "" in value):
            yield Problem(path, "an empty string names nothing; remove it")
    for name in ("services", "handlers", "invoked_by"):
        for pattern in getattr(leaf, name) or ():
            yield from _pattern(f"{prefix}{type(leaf).model_fields[name].alias or name}", name, pattern)
    if leaf.created_after and leaf.created_before and in_utc(leaf.created_after) >= in_utc(leaf.created_before):
        yield Problem(f"{prefix}createdAfter", "nothing was created both after createdAfter and before createdBefore")
    for name in ("older_than", "unmodified_for", "completed_for"):
        length = getattr(leaf, name)
        if length:
            try:
                parse_duration(length)
            except DurationError as error:
                yield Problem(f"{prefix}{type(leaf).model_fields[name].alias or name}", str(error))


def _pattern(path: str, name: str, pattern: str) -> Iterator[Problem]:
    shown = repr(pattern[:64])
    if pattern == "*":
        yield Problem(path, "a bare * is every one of them; name a prefix such as report-*, or remove the field")
    elif "*" in pattern[:-1]:
        yield Problem(path, f"{shown}: only a trailing * is a wildcard, such as report-*")
    elif "/" in pattern:
        # No name holds a slash, so this would match nothing, and below `not` leave nothing out.
        hint = "services: [checkout] and handlers: [pay]" if name == "handlers" else "the service's name alone"
        yield Problem(path, f"{shown} is a path and no name; write {hint}")


def _retries(target: Target, default_statuses: frozenset[InvocationStatus] | None) -> Iterator[Problem]:
    """``minRetries`` never matches a paused invocation, wherever the two meet."""
    message = "the engine keeps no count of retries for Paused; remove Paused from statuses, or minRetries"
    groups: list[tuple[str, Leaf, list[Leaf] | None]] = [("", target, target.any_of)]
    if target.not_ is not None:
        groups.append(("not.", target.not_, target.not_.any_of))
    for prefix, leaf, branches in groups:
        if leaf.min_retries is not None and _paused(leaf):
            yield Problem(f"{prefix}minRetries", message)
        for n, branch in enumerate(branches or ()):
            together = (leaf.min_retries, branch.min_retries) != (None, None)
            own = branch.min_retries is not None and branch.statuses is None and _paused(leaf)
            if together and (_paused(branch) or own):
                yield Problem(f"{prefix}anyOf[{n}].minRetries", message)
    if target.statuses is None and default_statuses == frozenset({InvocationStatus.PAUSED}):
        advice = "this action applies to Paused by default, and the engine keeps no count there; name other statuses"
        parts: list[tuple[str, Leaf]] = [("", target)]
        parts += ((f"anyOf[{n}].", branch) for n, branch in enumerate(target.any_of or ()))
        for prefix, part in parts:
            if part.min_retries is not None and part.statuses is None:
                yield Problem(f"{prefix}minRetries", advice)


def _paused(leaf: Leaf) -> bool:
    return InvocationStatus.PAUSED in (leaf.statuses or ())


def _narrowing(target: Target) -> Iterator[Problem]:
    if target.all and narrows(target):
        yield Problem("all", "all: true stands alone or with filters that do not narrow; remove it, or what narrows")
    elif not target.all and not narrows(target):
        branches = " in each branch of anyOf or beside it" if target.any_of else ""
        yield Problem(
            "", f"it must narrow by {', '.join(NARROWING[:-1])} or {NARROWING[-1]}{branches}; or say all: true"
        )
