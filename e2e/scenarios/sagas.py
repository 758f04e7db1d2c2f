"""What became of the compensation of a cancelled saga, told by the saga's service, the engine's journal and its events.

A step of a handler runs at least once in Restate: when the engine loses an attempt before it has the step's result, the
next attempt runs the step again. A second cancel aborts a compensation. The two are told apart here: the operator
answers for one cancel signal in each journal, the engine for how often a step runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2e.rig import Engine

CANCEL = "entry_type = 'Notification: Signal' and entry_lite_json like '%\"SignalIndex\":1}%'"
STEP, DONE, OUTPUT = "unbook", "step done", "compensated"


@dataclass(frozen=True)
class Story:
    """One saga: what each attempt of its handler came to, in their order, and what the engine keeps of it."""

    id: str
    attempts: Sequence[Sequence[tuple[float, str]]]
    journal: Sequence[dict[str, Any]]
    events: Sequence[dict[str, Any]]
    row: dict[str, Any]

    @property
    def cancels(self) -> int:
        return sum(bool(entry.get("cancel")) for entry in self.journal)

    @property
    def step_was_run_again(self) -> bool:
        """Whether the effect came more than once because the engine ran the step again, and for no other reason: one
        cancel, one step in the journal, and each effect in an attempt of its own, of which only the last one may have
        learned that the engine has the step's result.
        """
        effects = [[what for _, what in attempt] for attempt in self.attempts if any(w == DONE for _, w in attempt)]
        steps = [entry for entry in self.journal if entry.get("name") == STEP and "Command" in entry["entry_type"]]
        lost = all(of_one.count(DONE) == 1 and OUTPUT not in of_one for of_one in effects[:-1])
        return len(effects) > 1 and lost and effects[-1].count(DONE) == 1 and self.cancels == len(steps) == 1

    def __str__(self) -> str:
        lines = [f"{self.id}: retry_count {self.row.get('retry_count')}, {self.row.get('completion_failure')}"]
        for number, attempt in enumerate(self.attempts, 1):
            lines.append(f"  attempt {number}: " + ", ".join(f"{at:.3f} {what}" for at, what in attempt))
        for told in (*self.journal, *self.events):
            lines.append("  " + ", ".join(f"{key} {value}" for key, value in told.items()))
        return "\n".join(lines)


def story(engine: Engine, id_: str, attempts: Sequence[Sequence[tuple[float, str]]]) -> Story:
    mine = f"where id = '{id_}'"
    journal = engine.sql(
        f"select index, entry_type, name, appended_at, {CANCEL} as cancel from sys_journal {mine} order by index"
    )
    events = engine.sql(
        f"select event_type, appended_at, event_json from sys_journal_events {mine} order by appended_at"
    )
    return Story(id_, attempts, journal, events, engine.sql(f"select * from sys_invocation {mine}")[0])
