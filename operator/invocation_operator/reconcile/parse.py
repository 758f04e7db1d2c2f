"""From an object as the API server has it to what the reconciler works with.

A specification with unknown fields is refused, not read leniently: a filter or a limit that this operator does not know
would widen what it does.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.action import ACTION_KIND, ActionSpec, ActionStatus, ActionType, Phase
from invocation_operator.api.v1alpha1.record import RecordSource
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.records import TERMINAL
from invocation_operator.plan import refusal as r
from invocation_operator.plan.refusal import Refusal

SHOWN = 5
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Subject:
    """An InvocationAction, read."""

    obj: Object
    spec: ActionSpec | None
    refusal: Refusal | None
    status: ActionStatus

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.obj["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.obj["metadata"]["name"])

    @property
    def uid(self) -> str:
        """Its UID."""
        return str(self.obj["metadata"]["uid"])

    @property
    def source(self) -> RecordSource:
        """The object as a record names it."""
        return source_of(ACTION_KIND.kind, self.obj)

    @property
    def run_id(self) -> str | None:
        """``spec.runId``, also of a specification that cannot be used as a whole."""
        return run_id_of(self.obj)

    @property
    def action(self) -> ActionType | None:
        """``spec.action``, also of a specification that cannot be used as a whole; None for one that is not known."""
        action = (self.obj.get("spec") or {}).get("action")
        return next((known for known in ActionType if known.value == action), None)

    @property
    def generation(self) -> int:
        """Generation of its specification."""
        return int(self.obj["metadata"].get("generation", 1))


def run_id_of(obj: Object) -> str | None:
    """Return ``spec.runId``, also of a specification that cannot be used as a whole."""
    run_id = (obj.get("spec") or {}).get("runId")
    return run_id if isinstance(run_id, str) else None


def source_of(kind: str, obj: Object) -> RecordSource:
    """Return an object as records name it."""
    metadata = obj["metadata"]
    return RecordSource(kind=kind, **{part: str(metadata[part]) for part in ("namespace", "name", "uid")})


def read(obj: Object) -> Subject:
    """Read an InvocationAction. A status that cannot be read counts as none: the record knows what happened."""
    try:
        status = ActionStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        status = ActionStatus()
    try:
        spec = ActionSpec.model_validate(obj.get("spec") or {})
    except ValidationError as error:
        return Subject(obj, None, refusal_of(error), status)
    return Subject(obj, spec, _vanished(obj), status)


def refusal_of(error: ValidationError) -> Refusal:
    """Return what people are told about a specification that cannot be used."""
    found = error.errors(include_url=False, include_input=False)
    unknown = [_place(e["loc"]) for e in found if e["type"] == "extra_forbidden"]
    if unknown:
        fields = ", ".join(unknown[:SHOWN])
        message = (
            f"this operator does not know {fields}; leaving it out could widen what is done, so nothing is. Correct "
            "the name, or upgrade the operator."
        )
        return Refusal(r.UNKNOWN_FIELD, message)
    told = "; ".join(f"{_place(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in found[:SHOWN])
    return Refusal(r.INVALID_SPEC, f"{told}.")


def _vanished(obj: Object) -> Refusal | None:
    """Refuse what ``kubectl apply`` lost on the way: it drops nulls before sending, and only its own annotation still
    shows that somebody wrote a field (a template without its value, as a rule) which then is not there.
    """
    applied = (obj["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if applied is None:
        return None
    try:
        spec = json.loads(applied).get("spec")
    except (ValueError, AttributeError):
        return None
    nulls = list(_nulls(spec, "spec"))
    if not nulls:
        return None
    message = f"{', '.join(nulls[:SHOWN])}: null in the manifest, which kubectl drops: give it a value or leave it out."
    return Refusal(r.INVALID_SPEC, message)


def _nulls(value: object, place: str) -> Iterator[str]:
    if value is None:
        yield place
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _nulls(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _nulls(inner, f"{place}[{number}]")


def settled(obj: Object) -> bool:
    """Whether nothing is left to do for the object; plain JSON, for the thousands that are finished at start-up."""
    status: dict[str, Any] = obj.get("status") or {}
    spec: dict[str, Any] = obj.get("spec") or {}
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata:
        return True
    return (
        status.get("phase") in TERMINAL
        and status.get("observedGeneration") == metadata.get("generation")
        and status.get("runId") == spec.get("runId")
    )


def terminal(subject: Subject) -> bool:
    """Whether the run that the specification asks for has ended."""
    phase, spec = subject.status.phase, subject.spec
    if phase not in TERMINAL:
        return False
    if spec is None:
        return subject.status.observed_generation == subject.generation
    if subject.status.run_id != spec.run_id:
        return False
    return phase is not Phase.PLANNED or spec.mode.value == "DryRun"


def _place(loc: tuple[int | str, ...]) -> str:
    return "spec." + ".".join(str(part) for part in loc)
