"""What the engine itself has recorded about operations: asked before anything is repeated, and to judge what happened.

Called by the reconcilers after a crash or a lost answer. The rows of ``sys_invocation`` do not show whether an
invocation was cancelled or whether one that is paused was resumed in between; its journal does. Rests on behaviour
observed on 1.6.1 and 1.7.12. Invariant: every id that is asked for gets an answer, and what the journal cannot tell is
said to be unknown, never taken for "did not happen".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from invocation_operator.engine.client import EngineClient, parse_time
from invocation_operator.engine.errors import reading

MOST = 1000
"""Ids in one query: 1000 took 40 to 80 ms among 50,000 invocations, one took 5 ms."""

_CANCEL = "entry_type = 'Notification: Signal' and entry_lite_json like '%\"SignalIndex\":1}%'"
"""A cancel is the signal with index 1. Awakeables are signals too, from index 17; named signals have no index."""


@dataclass(frozen=True, slots=True)
class CancelSignals:
    """The cancels that an invocation's journal holds."""

    count: int | None
    """How many; None when the journal cannot tell: there is none (any more), or it is of the engine's first format,
    which 1.6 uses until the first command and in which a cancel that was answered with 202 leaves nothing."""
    last_at: datetime | None = None
    """When the last one was appended, on the engine's clock."""
    last_index: int | None = None
    """Where the last one is."""
    journal_last_index: int | None = None
    """The last entry there is; above ``last_index`` when something was appended after the cancel."""


async def cancel_signals(client: EngineClient, ids: Sequence[str]) -> dict[str, CancelSignals]:
    """For each id the cancels in its journal. Ids must be well formed: one that is not fails the query (500)."""
    found = {id_: CancelSignals(count=None) for id_ in ids}
    for some in _batches(ids):
        rows = await client.rows(
            f"select id, max(index) as last, count(*) filter (where version < 2) as old,"  # noqa: S608
            f" count(*) filter (where {_CANCEL}) as cancels, max(index) filter (where {_CANCEL}) as cancel_index,"
            f" max(appended_at) filter (where {_CANCEL}) as cancel_at"
            f" from sys_journal where id in ({some}) group by id"
        )
        with reading("cancel signals"):
            for row in rows:
                at = row.get("cancel_at")
                found[row["id"]] = CancelSignals(
                    count=None if row["old"] else int(row["cancels"]),
                    last_at=None if at is None else parse_time(at),
                    last_index=row.get("cancel_index"),
                    journal_last_index=row["last"],
                )
    return found


async def last_pauses(client: EngineClient, ids: Sequence[str]) -> dict[str, datetime]:
    """For each id that ever came to be paused, by hand or by its retry policy: when last, on the engine's clock.

    The engine dates the event and the row by the same moment, so this is the ``modified_at`` of a row that was not
    touched since, and never later than it: what is later than the ``modified_at`` that was seen before a resume means
    resumed, and paused again. ``modified_at`` alone does not tell that: it also changes when a timer fires or a cancel
    arrives while paused.
    """
    found: dict[str, datetime] = {}
    for some in _batches(ids):
        rows = await client.rows(
            "select id, max(appended_at) as paused_at from sys_journal_events"  # noqa: S608
            f" where id in ({some}) and event_type = 'Paused' group by id"
        )
        with reading("pauses"):
            found.update((row["id"], parse_time(row.get("paused_at"))) for row in rows)
    return found


def _batches(ids: Sequence[str]) -> list[str]:
    """SQL lists of at most ``MOST`` ids each."""
    quoted = ["'" + id_.replace("'", "''") + "'" for id_ in ids]
    return [", ".join(quoted[start : start + MOST]) for start in range(0, len(quoted), MOST)]
