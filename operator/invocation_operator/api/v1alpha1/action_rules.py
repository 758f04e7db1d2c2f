"""What an InvocationAction may not say, and what may change of it after its creation, as CEL. Read by ``action``."""

from invocation_operator.api.v1alpha1.base import Rule
from invocation_operator.api.v1alpha1.cel import one_of, shorter, unchanged
from invocation_operator.api.v1alpha1.target_rules import living_rule, statuses_rule

_LIVING = ("Pending", "Scheduled", "Ready", "Running", "Suspended", "BackingOff", "Paused")
_PAUSABLE = ("Ready", "Running", "Suspended", "BackingOff", "Paused")
_RESUMABLE = ("Paused", "BackingOff", "Suspended")

_FITTING = (
    statuses_rule(("Cancel", "Kill"), _LIVING, "leave Completed out of target.statuses"),
    statuses_rule(
        ("Pause",), _PAUSABLE, "what has not started yet and what is completed cannot be paused; change target.statuses"
    ),
    statuses_rule(("Resume",), _RESUMABLE, "change target.statuses"),
    statuses_rule(
        ("Purge", "PurgeJournal", "RestartAsNew"),
        ("Completed",),
        "cancel or kill what is alive first, or change statuses",
    ),
    living_rule(("Cancel", "Kill", "Pause", "Resume")),
    Rule(
        "self.action != 'Resume' || has(self.target.statuses) || "
        "(has(self.target.anyOf) && self.target.anyOf.exists(branch, has(branch.statuses))) || "
        "!(has(self.target.minRetries) || "
        "(has(self.target.anyOf) && self.target.anyOf.exists(branch, has(branch.minRetries))))",
        message="Resume looks at Paused unless target.statuses says otherwise, and the engine keeps no count of "
        "retries there: minRetries needs statuses: [BackingOff]",
        field_path=".target",
    ),
)

_OPTIONS = (
    Rule(
        "!has(self.escalation) || self.action == 'Cancel'",
        message="escalation is for action: Cancel only",
        field_path=".escalation",
    ),
    Rule(
        "!has(self.expedite) || !self.expedite || self.action == 'Cancel'",
        message="expedite is for action: Cancel only",
        field_path=".expedite",
    ),
    Rule(
        "!has(self.verification) || !has(self.verification.repeat) || self.verification.repeat == 'Never' || "
        "self.action == 'Cancel'",
        message="verification.repeat: WhenUnchanged is for action: Cancel only",
        field_path=".verification.repeat",
    ),
    Rule(
        "!has(self.resume) || self.action == 'Resume'",
        message="resume holds options of action: Resume only",
        field_path=".resume",
    ),
    Rule(
        "!has(self.restart) || self.action == 'RestartAsNew'",
        message="restart holds options of action: RestartAsNew only",
        field_path=".restart",
    ),
    Rule(
        "!has(self.rollout) || self.action in ['Resume', 'RestartAsNew']",
        message="rollout is for action: Resume and RestartAsNew only: what the others end is not seen to be well again",
        field_path=".rollout",
    ),
)

_VERIFICATION = "(has(self.verification) && has(self.verification.timeout) ? self.verification.timeout : '5m')"
_SOAK = "(has(self.rollout.soak) ? self.rollout.soak : '1m')"

_TIMES = (
    Rule(
        f"!has(self.escalation) || ({shorter('self.escalation.killAfter', _VERIFICATION)})",
        message="escalation.killAfter must be shorter than verification.timeout (default 5m), or the kill would come "
        "too late to be seen",
        field_path=".escalation.killAfter",
    ),
    Rule(
        f"!has(self.escalation) || !has(self.timeout) || ({shorter('self.escalation.killAfter', 'self.timeout')})",
        message="escalation.killAfter must be shorter than timeout, or nothing would ever be killed",
        field_path=".escalation.killAfter",
    ),
    Rule(
        "!has(self.timeout) || !has(self.verification) || !has(self.verification.timeout) || "
        f"({shorter('self.verification.timeout', 'self.timeout', or_equal=True)})",
        message="verification.timeout must not be longer than timeout, which ends the verification too",
        field_path=".verification.timeout",
    ),
    Rule(
        f"!has(self.rollout) || !has(self.timeout) || ({shorter(_SOAK, 'self.timeout')})",
        message="rollout.soak (default 1m) must be shorter than timeout, or no second wave would ever begin",
        field_path=".rollout.soak",
    ),
)

IMMUTABLE = (
    "engineRef",
    "action",
    "reason",
    "target",
    "limits.maxTargets",
    "limits.maxPercentOfService",
    "limits.maxFailures",
    "verification",
    "expedite",
    "escalation",
    "resume",
    "restart",
    "rollout",
    "timeout",
    "notAfter",
    "approval",
    "report",
    "runPolicy",
)
"""What changes only together with ``runId``. That a field comes or goes is a change too."""

_IMMUTABILITY = (
    *(
        Rule(
            f"!{unchanged('runId', 'oldSelf')} || {unchanged(field, 'oldSelf')}",
            message=f"{field} is immutable after creation: to run this action again or to run something else, set a "
            "new spec.runId when it has ended",
            field_path=f".{field}",
        )
        for field in IMMUTABLE
    ),
    Rule(
        "!has(oldSelf.runId) || has(self.runId)",
        message="runId may not be removed: set a new spec.runId to run this action again",
        field_path=".runId",
    ),
)

_APPROVAL = (
    Rule(
        "oldSelf.hasValue() || !has(self.approvedPlan)",
        message="approvedPlan is not accepted at creation, when there is no plan yet: create the action without it, "
        "look at status.plan, then set approvedPlan to status.plan.hash",
        field_path=".approvedPlan",
        optional_old_self=True,
    ),
)

SPEC_RULES = (*_FITTING, *_OPTIONS, *_TIMES, *_IMMUTABILITY, *_APPROVAL)

TERMINAL = ("Planned", "Succeeded", "PartiallyFailed", "Failed", "Refused", "Stopped", "Expired", "AlreadyExecuted")
"""Phases in which a run has ended."""

_PHASE = "(has(oldSelf.status) && has(oldSelf.status.phase) ? oldSelf.status.phase : 'Pending')"

ROOT_RULES = (
    Rule(
        f"{unchanged('runId', 'oldSelf.spec', 'self.spec')} || {_PHASE} in {one_of(TERMINAL)}",
        message="a new spec.runId is accepted only when the run has ended",
        message_expression=f"'a new spec.runId is accepted only when the run has ended; its phase is ' + {_PHASE} + "
        "': wait, or delete the object to stop it'",
        field_path=".spec.runId",
    ),
)
