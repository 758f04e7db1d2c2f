"""The engine's words for what the API names: statuses, and the failures that mean cancelled or killed.

Read by every module of this room, so that each word is written once.
"""

from invocation_operator.api.v1alpha1.target import InvocationStatus as S

ENGINE_STATUS: dict[S, str] = {
    S.PENDING: "pending",
    S.SCHEDULED: "scheduled",
    S.READY: "ready",
    S.RUNNING: "running",
    S.SUSPENDED: "suspended",
    S.BACKING_OFF: "backing-off",
    S.PAUSED: "paused",
    S.COMPLETED: "completed",
}
"""``sys_invocation.status`` of each status."""

STATUS = {word: status for status, word in ENGINE_STATUS.items()}

CANCELLED = tuple(f"[409] {word}" for word in ("cancelled", "Cancelled", "canceled", "Canceled"))
KILLED = tuple(f"[409] {word}" for word in ("killed", "Killed"))
"""``completion_failure`` of cancelled and killed invocations. The code alone does not tell (409 is both, and any
conflict); the words differ by SDK (Python ``cancelled``, TypeScript ``Cancelled``). The same list as the engine's own
(restate 1.7.6, ``crates/vqueues/src/lib.rs``) and its UI's."""


class UnsupportedFilter(ValueError):
    """The engine is too old for a filter of the target; the message names it and what to do."""
