"""A run that waits for a person: its plan is shown and kept, and its approval is taken up once, before anything else.

Called by the reconciler of InvocationActions with the object as it was just read. Everything that is decided here is
written only if the object is still that version, so that neither a withdrawn approval nor a plan that another operator
has shown meanwhile is acted upon. Once an approval stands in status it is never looked at again: what may be carried
out is the set that hashes to it, in this life or the next.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionStatus, PlanStatus
from invocation_operator.api.v1alpha1.approval import ApprovalStatus, ReplacedPlan
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.conditions import find
from invocation_operator.observe import metrics
from invocation_operator.plan import refusal as r
from invocation_operator.plan.approval import Step, bearable, expires, next_step
from invocation_operator.plan.build import Plan
from invocation_operator.plan.refusal import Refusal
from invocation_operator.reconcile import narrate
from invocation_operator.reconcile.authors import Authors
from invocation_operator.reconcile.board import Board
from invocation_operator.reconcile.lock import Lock, PlanLost
from invocation_operator.reconcile.narrate import Turn
from invocation_operator.reconcile.parse import Subject
from invocation_operator.reconcile.planning import Planning, make_plan
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.workbench import Retry

log = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class Approvals:
    """Shows plans and takes up their approvals."""

    lock: Lock
    events: EventRecorder
    authors: Authors

    async def judge(
        self, board: Board, subject: Subject, spec: ActionSpec, resolved: Resolved, now: datetime
    ) -> Planning | Refusal | Retry:
        """Return the approved plan, as far as it still matches; or a refusal, or when to look again.

        ``subject`` was read just now; ``now`` is the engine's time. Raises ``WriteConflict`` when the object changed
        meanwhile, and the engine client's errors.
        """
        status = narrate.of_this_run(subject.status, subject.run_id)
        step = next_step(spec, status, resolved.identity, now)
        if step is Step.CARRY_OUT:
            approved = await self._approved(board, subject, status, spec, resolved, now)
            if approved is not None:
                return approved
        if step is Step.WAIT and status.plan is not None:
            await self._show(board, subject, status, spec)
            return _until(spec, status.plan, now)
        return await self._plan(board, subject, status, spec, resolved, now)

    async def _approved(
        self,
        board: Board,
        subject: Subject,
        status: ActionStatus,
        spec: ActionSpec,
        resolved: Resolved,
        now: datetime,
    ) -> Planning | Refusal | None:
        """Return what may be carried out; None when it must be planned anew, which only a fresh approval may be."""
        standing = status.approval
        if standing is not None and status.engine != resolved.identity:
            message = "another RestateEngine or another cluster answers now than when the plan was approved."
            return Refusal(r.ENGINE_CHANGED, message)
        kept = await self.lock.previewed(subject, spec)
        if isinstance(kept, PlanLost):
            if standing is not None:
                return Refusal(r.PLAN_LOST, kept.message)
            # What is there under the plan's name would else be taken for the new one.
            await self.lock.drop_preview(subject)
            return None
        planning = await make_plan(spec, resolved, now, only=kept)
        if isinstance(planning, Refusal):
            return planning
        matching = planning.plan.total
        if not bearable(spec, len(kept), matching):
            if standing is None:
                return None
            message = f"only {matching} of the {len(kept)} approved invocations still match (approval.drift: Exact)."
            return Refusal(r.PLAN_DRIFTED, message)
        if standing is None:
            await self._take_up(board, subject, status, spec, matching, now)
        return planning

    async def _take_up(
        self, board: Board, subject: Subject, status: ActionStatus, spec: ActionSpec, matching: int, now: datetime
    ) -> None:
        plan = status.plan or PlanStatus()
        turn = narrate.approved(plan, matching)
        approval = ApprovalStatus(hash=plan.hash or "", by=self.authors.approver(subject.obj), time=now)
        requested_by = self.authors.requester(subject.obj)
        approved = _after(status, turn, subject, approval=approval, requested_by=requested_by)
        await board.decide(approved, subject.obj)
        self.events.tell(board.obj, turn.reason, turn.message)
        metrics.plan_approved(spec.action)
        log.info("plan approved", hash=plan.hash, by=approval.by, planned=plan.total, matching=matching)

    async def _plan(
        self,
        board: Board,
        subject: Subject,
        status: ActionStatus,
        spec: ActionSpec,
        resolved: Resolved,
        now: datetime,
    ) -> Refusal | Retry:
        planning = await make_plan(spec, resolved, now)
        if isinstance(planning, Refusal):
            return planning
        before, made = status.plan, planning.plan
        shown = made.status().model_copy(update={"replaced": await self._replaced(subject, status, spec, made)})
        await self.lock.keep_preview(subject, made)
        fresh = {"engine": resolved.identity, "plan": shown, "progress": None, "results": None, "start_time": None}
        await self._show(board, subject, status.model_copy(update=fresh), spec)
        if before is not None and before.hash not in (None, shown.hash):
            await self.lock.drop_preview(subject)
        if spec.approved_plan == shown.hash:
            return Retry(0.0 if before is None or before.hash != shown.hash else LOOK_AGAIN_SECONDS)
        return _until(spec, shown, now)

    async def _replaced(
        self, subject: Subject, status: ActionStatus, spec: ActionSpec, made: Plan
    ) -> ReplacedPlan | None:
        before = status.plan
        if before is None or before.hash is None:
            return None
        if before.hash == made.hash:
            return before.replaced
        kept = await self.lock.previewed(subject, spec)
        if isinstance(kept, PlanLost):
            return ReplacedPlan(hash=before.hash)
        common = sum(kept.holds(target.id, target.created_at) for target in made.targets)
        return ReplacedPlan(hash=before.hash, gone=len(kept) - common, added=made.total - common)

    async def _show(self, board: Board, subject: Subject, status: ActionStatus, spec: ActionSpec) -> None:
        """Show the plan in ``status`` and how to approve it; told when it is another one, or the answer is."""
        if status.plan is None:
            return
        known = narrate.of_this_run(subject.status, subject.run_id)
        before = find(known.conditions, "Ready")
        turn = narrate.awaiting(subject.namespace, subject.name, status.plan, spec.approved_plan)
        requested_by = self.authors.requester(subject.obj)
        await board.decide(_after(status, turn, subject, requested_by=requested_by), subject.obj)
        told = known.plan.hash if known.plan is not None else None
        if before is None or before.reason != turn.reason or told != status.plan.hash:
            self.events.tell(board.obj, turn.reason, turn.message, "Warning" if spec.approved_plan else "Normal")
            log.info("waiting", reason=turn.reason, plan=status.plan.hash, planned=status.plan.total)


def _after(status: ActionStatus, turn: Turn, subject: Subject, **fields: object) -> ActionStatus:
    return narrate.apply(status, turn, generation=subject.generation, now=datetime.now(UTC), **fields)


def _until(spec: ActionSpec, plan: PlanStatus, now: datetime) -> Retry:
    """Look again when the plan is too old to be approved, or ``notAfter`` has passed; a change rings before."""
    next_look = expires(spec, plan)
    if spec.not_after is not None:
        next_look = min(next_look, spec.not_after)
    return Retry(max((next_look - now).total_seconds(), 0.0) + 0.1)
