"""The engine's internal batch endpoints: a thousand invocations in one request, many times as fast.

They are undocumented and marked internal, so they are used only where a probe shows them, every answer is checked id by
id, and whoever calls goes back to the public calls the moment something is not as it was. Called by the executor. Rests
on behaviour observed on 1.6.1 and 1.7.12: 200 also when every item failed, and errors as text without a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.models import Op
from invocation_operator.values.ids import is_invocation_id

MOST = 1000
"""Ids that the engine takes in one batch."""

_STATUSES = (
    ("Deployment not found", 400),
    ("' not found", 404),
    ("was already completed", 409),
    ("is not running, cannot be paused", 409),
    ("inboxed or scheduled", 425),
    ("is completed, cannot be resumed", 409),
    ("is not yet completed", 409),
    ("not running yet", 425),
    ("is still running", 409),
    ("deployment id is not pinned yet", 409),
    ("Cannot change deployment ID", 409),
    ("is not supported", 422),
    ("input is not available", 410),
)
"""Texts of single items and the code that the public call gives for the same refusal."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One item that the engine refused. ``status`` is None for a text that is not known: ask singly to be told."""

    message: str
    status: int | None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What became of each id of a batch; every id is in exactly one of both."""

    taken: dict[str, str | None]
    """Ids that the engine took; done and only noted are not told apart. For restarts the new id."""
    refused: dict[str, Refusal]


async def operate_many(
    client: EngineClient, op: Op, ids: Sequence[str], *, deployment: str | None = None
) -> BatchAnswer:
    """Ask for ``op`` on all ``ids`` (distinct, well-formed, at most ``MOST``) in one request, once.

    Raises:
        EngineError: ``may_have_acted`` tells whether it may have taken effect on some of them. ``BadReply`` also when
            the answer does not account for every id.

    """
    body: dict[str, Any] = {"invocation_ids": list(ids)}
    if deployment is not None:
        body["deployment"] = deployment
    value = await client.post_internal("invocations_batch_operations", op.value, body=body)
    taken = _taken(_items(value, "succeeded"), op)
    refused = dict(_refused(item) for item in _items(value, "failed"))
    if len(taken) + len(refused) != len(ids) or taken.keys() | refused.keys() != set(ids):
        raise errors.BadReply("the engine's batch answer does not account for every invocation")
    return BatchAnswer(taken, refused)


def status_of(message: str) -> int | None:
    """Return the code that the public call gives for the same refusal, None for a text that is not known."""
    return next((status for text, status in _STATUSES if text in message), None)


def _items(value: dict[str, Any], name: str) -> list[Any]:
    items = value.get(name)
    if not isinstance(items, list):
        raise errors.BadReply("the engine's batch answer has another form")
    return items


def _taken(items: list[Any], op: Op) -> dict[str, str | None]:
    if op is Op.RESTART_AS_NEW:
        return dict(_restarted(item) for item in items)
    if not {*map(type, items)} <= {str}:
        raise errors.BadReply("the engine's batch answer has another form")
    return dict.fromkeys(items)


def _restarted(item: Any) -> tuple[str, str]:
    if isinstance(item, dict):
        old, new = item.get("old_invocation_id"), item.get("new_invocation_id")
        # One that is none would fail the query for all that are looked for together.
        if isinstance(old, str) and isinstance(new, str) and is_invocation_id(new):
            return old, new
    raise errors.BadReply("the engine's batch answer has another form")


def _refused(item: Any) -> tuple[str, Refusal]:
    if isinstance(item, dict):
        id_, message = item.get("invocation_id"), item.get("error")
        if isinstance(id_, str) and isinstance(message, str):
            return id_, Refusal(errors.capped(message), status_of(message))
    raise errors.BadReply("the engine's batch answer has another form")
