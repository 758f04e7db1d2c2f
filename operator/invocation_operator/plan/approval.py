"""What an action that needs an approval does next. Pure: the specification, its status, the engine and its time in.

The plan that is shown is never older than ``approval.planMaxAge``, so that the hash that people see is one that they
can approve; and an approval that is looked at later than that is one of a plan that is made anew first.
"""

from datetime import UTC, datetime
from enum import StrEnum

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionStatus, PlanStatus
from invocation_operator.api.v1alpha1.approval import Drift
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.values.duration import parse_duration
from invocation_operator.values.times import after


class Step(StrEnum):
    """What comes next."""

    PLAN = "a plan is made and shown"
    WAIT = "the plan that is shown waits for its approval"
    CARRY_OUT = "the plan is approved"


def next_step(spec: ActionSpec, status: ActionStatus, engine: EngineIdentity, now: datetime) -> Step:
    """Return what comes next at ``now`` (the engine's clock), with ``engine`` as it was resolved now.

    ``status`` is that of this run only. An approval that was taken up stands, whatever ``spec`` says by now.
    """
    if status.approval is not None:
        return Step.CARRY_OUT
    plan = status.plan
    if plan is None or plan.hash is None or status.engine != engine or now >= expires(spec, plan):
        return Step.PLAN
    return Step.CARRY_OUT if spec.approved_plan == plan.hash else Step.WAIT


def expires(spec: ActionSpec, plan: PlanStatus) -> datetime:
    """Return when ``plan`` is too old to be approved. One without a time always is."""
    made = plan.time or datetime(1970, 1, 1, tzinfo=UTC)
    return after(made, parse_duration(spec.approval.plan_max_age))


def bearable(spec: ActionSpec, planned: int, matching: int) -> bool:
    """Whether an approval of ``planned`` invocations covers the ``matching`` of them that still match."""
    return matching == planned or spec.approval.drift is Drift.SUBSET
