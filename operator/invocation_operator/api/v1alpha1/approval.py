"""Approval of a plan by a person: what an InvocationAction asks for, and what its status and record say of it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.base import Duration, Model, Rule, ShortText, StrictModel
from invocation_operator.api.v1alpha1.cel import shorter

PlanHash = Annotated[str, StringConstraints(max_length=80, pattern=r"^sha256:[0-9a-f]{48}$")]
"""What ``status.plan.hash`` looks like."""


class Drift(StrEnum):
    """What an approval is worth when some of the planned invocations no longer match."""

    SUBSET = "Subset"
    EXACT = "Exact"


_TOO_SHORT = shorter("self.planMaxAge", "'1m'")


class Approval(StrictModel):
    """Approve only: what an approval covers, and for how long."""

    drift: Drift = Drift.SUBSET
    """`Subset`: those of the approved invocations that still match are acted upon, and never others. `Exact`: all of
    them or none; when one no longer matches, nothing is done and a new plan waits for its approval."""
    plan_max_age: Duration = "1h"
    """A plan that is older than this, on the engine's clock, is made anew and waits for its own approval. At least
    1m."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.planMaxAge) || !({_TOO_SHORT})",
            message="planMaxAge must be 1m or more: a person has to read the plan before it is made anew",
            field_path=".planMaxAge",
        ),
    )


class ApprovalStatus(Model):
    """The approval that the run was started with. Written before anything is touched, and never changed."""

    hash: Annotated[str, StringConstraints(max_length=80)]
    """Hash of the plan that was approved."""
    by: ShortText | None = None
    """Who approved it. Empty where no admission policy vouches for it."""
    time: datetime
    """When the approval was taken up, on the engine's clock."""


class ReplacedPlan(Model):
    """The plan that was shown before this one, and how the two differ."""

    hash: Annotated[str, StringConstraints(max_length=80)]
    """Its hash; an approval of it is not one of the present plan."""
    gone: Annotated[int, Field(ge=0)] | None = None
    """How many of its invocations are not planned any more; empty when its set cannot be read any more."""
    added: Annotated[int, Field(ge=0)] | None = None
    """How many are planned now and were not then."""
