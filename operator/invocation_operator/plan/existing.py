"""What exists and would be gone if it had been made under the values of a policy: a condition for the engine's SQL.

A retention holds for new invocations only. Those that exist are measured here by what the engine would have given them:
a workflow's run by ``workflowCompletion``, a call with an idempotency key by ``idempotency``, any other by ``journal``,
and journals by ``journal``. Handlers whose own values win are left as they are. Pure; ``target.sql`` takes the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from invocation_operator.plan.retention import WORKFLOW, Observed, Setting, Values
from invocation_operator.target.filters import literal
from invocation_operator.values.times import before, format_time

COLUMNS = (
    "target_service_name",
    "target_handler_name",
    "completed_at",
    "idempotency_key",
    "journal_size",
)
"""Columns that the conditions look at."""
NOTHING = "i.target_service_name = ''"
"""Matches no invocation. (An id that is none would fail the whole query.)"""


@dataclass(frozen=True, slots=True)
class Outlived:
    """Conditions of invocations that outlived what the policy says."""

    completions: str
    journals: str

    @property
    def either(self) -> str:
        """Whatever is freed."""
        return f"({self.completions} or {self.journals})"


def outlived(services: Iterable[Observed], requested: Values, now: datetime) -> Outlived:
    """Return the conditions for ``services`` at ``now``, the engine's clock."""
    completions, journals = [], []
    for service in services:
        mine = f"i.target_service_name = {literal(service.name)}"
        runs = sorted(service.runs) if service.type == WORKFLOW else []
        run = f"i.target_handler_name in ({', '.join(map(literal, runs))})" if runs else "false"
        kinds = {
            Setting.WORKFLOW_COMPLETION: run,
            Setting.IDEMPOTENCY: f"(not {run} and i.idempotency_key is not null)",
            Setting.JOURNAL: f"(not {run} and i.idempotency_key is null)",
        }
        for setting, kind in kinds.items():
            if setting in requested and kind != "false":
                completions.append(f"({mine} and {kind} and {_past(service, setting, requested, now)})")
        if Setting.JOURNAL in requested:
            past = _past(service, Setting.JOURNAL, requested, now)
            journals.append(f"({mine} and i.journal_size > 0 and {past})")
    return Outlived(_any(completions), _any(journals))


def _past(service: Observed, setting: Setting, requested: Values, now: datetime) -> str:
    bound = f"i.completed_at < {literal(format_time(before(now, requested[setting])))}"
    own = sorted(name for name, values in service.handlers.items() if setting in values)
    if not own:
        return bound
    return f"{bound} and i.target_handler_name not in ({', '.join(map(literal, own))})"


def _any(conditions: list[str]) -> str:
    return f"({' or '.join(conditions)})" if conditions else NOTHING
