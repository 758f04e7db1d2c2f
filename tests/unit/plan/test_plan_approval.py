"""What an action that needs an approval does next, case by case."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionStatus, PlanStatus
from invocation_operator.api.v1alpha1.approval import ApprovalStatus
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.plan.approval import Step, bearable, next_step

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ENGINE = EngineIdentity(namespace="shop", name="production", uid="u-1", cluster_name="east")
SHOWN, OTHER = (f"sha256:{letter * 48}" for letter in "ab")


def spec(**fields: Any) -> ActionSpec:
    return ActionSpec.model_validate(
        {"action": "Kill", "mode": "Approve", "target": {"services": ["checkout"]}} | fields
    )


def status(age_minutes: float = 5, **fields: Any) -> ActionStatus:
    plan = PlanStatus(hash=SHOWN, total=3, time=NOW - timedelta(minutes=age_minutes))
    return ActionStatus(**({"engine": ENGINE, "plan": plan} | fields))


STANDING = ApprovalStatus(hash=SHOWN, time=NOW - timedelta(days=3))
ELSEWHERE = ENGINE.model_copy(update={"cluster_name": "west"})
WITHOUT_TIME = PlanStatus(hash=SHOWN, total=3)

CASES: list[tuple[str, ActionSpec, ActionStatus, Step]] = [
    ("nothing was planned yet", spec(), ActionStatus(), Step.PLAN),
    ("an approval of what was never shown", spec(approvedPlan=SHOWN), ActionStatus(), Step.PLAN),
    ("shown, and nobody has said anything", spec(), status(), Step.WAIT),
    ("approved", spec(approvedPlan=SHOWN), status(), Step.CARRY_OUT),
    ("an approval of another plan", spec(approvedPlan=OTHER), status(), Step.WAIT),
    ("approved a moment before it is too old", spec(approvedPlan=SHOWN), status(59.9), Step.CARRY_OUT),
    ("approved when it is too old", spec(approvedPlan=SHOWN), status(60), Step.PLAN),
    ("too old, so that what is shown can be approved", spec(), status(60), Step.PLAN),
    ("too old by its own measure", spec(approvedPlan=SHOWN, approval={"planMaxAge": "2m"}), status(), Step.PLAN),
    ("young by its own measure", spec(approvedPlan=SHOWN, approval={"planMaxAge": "1d"}), status(600), Step.CARRY_OUT),
    ("never too old", spec(approvedPlan=SHOWN, approval={"planMaxAge": "3000000d"}), status(600), Step.CARRY_OUT),
    ("a plan without a time", spec(approvedPlan=SHOWN), status(plan=WITHOUT_TIME), Step.PLAN),
    ("planned on another cluster", spec(approvedPlan=SHOWN), status(engine=ELSEWHERE), Step.PLAN),
    ("planned on an engine that was lost from status", spec(approvedPlan=SHOWN), status(engine=None), Step.PLAN),
    ("an approval that stands, and was taken back", spec(), status(approval=STANDING), Step.CARRY_OUT),
    ("an approval that stands, and another one", spec(approvedPlan=OTHER), status(approval=STANDING), Step.CARRY_OUT),
    ("an approval that stands longer than a plan", spec(), status(9999, approval=STANDING), Step.CARRY_OUT),
]


@pytest.mark.parametrize(("why", "given", "known", "step"), CASES, ids=[case[0] for case in CASES])
def test_next_step_of_an_action_that_needs_an_approval(
    why: str, given: ActionSpec, known: ActionStatus, step: Step
) -> None:
    assert next_step(given, known, ENGINE, NOW) is step, why


@pytest.mark.parametrize(
    ("drift", "matching", "covered"),
    [("Subset", 3, True), ("Subset", 0, True), ("Exact", 3, True), ("Exact", 2, False)],
)
def test_approval_covers_what_still_matches_or_all_or_none(drift: str, matching: int, covered: bool) -> None:
    assert bearable(spec(approval={"drift": drift}), 3, matching) is covered
