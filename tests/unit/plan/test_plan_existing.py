"""What has outlived a policy's values, as SQL that is evaluated on rows: it is only as good as what it selects."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from invocation_operator.plan.existing import outlived
from invocation_operator.plan.retention import Observed, Setting

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
H = timedelta(hours=1)
REQUESTED = {Setting.IDEMPOTENCY: 2 * H, Setting.WORKFLOW_COMPLETION: 5 * H, Setting.JOURNAL: H}
SERVICES = [
    Observed("Plain", "Service", 1, "dp_1", {}, {"own": {Setting.JOURNAL: 9 * H}}),
    Observed("It's", "VirtualObject", 1, "dp_1", {}),
    Observed("Flow", "Workflow", 1, "dp_1", {}, runs=frozenset({"run"})),
]

ROWS = [
    ("Plain", "h", "k", 3, 2, True, True, "keyed, past idempotency"),
    ("Plain", "h", "k", 1.5, 2, False, True, "keyed, past journal only"),
    ("Plain", "h", None, 1.5, 2, True, True, "without a key the completion goes with the journal"),
    ("Plain", "h", None, 0.5, 2, False, False, "young"),
    ("Plain", "h", None, 1.5, 0, True, False, "no journal to free"),
    ("Plain", "own", None, 3, 2, False, False, "a handler whose own journal retention wins"),
    ("Plain", "own", "k", 3, 2, True, False, "and which has no idempotency of its own"),
    ("It's", "h", "k", 3, 2, True, True, "a name with a quote"),
    ("Flow", "run", None, 3, 2, False, True, "a run within workflowCompletion"),
    ("Flow", "run", None, 6, 2, True, True, "a run past it"),
    ("Flow", "peek", "k", 3, 2, True, True, "a workflow's other handlers are calls like any other"),
    ("Other", "h", "k", 99, 2, False, False, "another service"),
]


@pytest.mark.parametrize(
    ("service", "handler", "key", "hours", "journal", "result", "freed", "why"), ROWS, ids=[row[-1] for row in ROWS]
)
def test_outlived_is_what_the_engine_would_have_expired(
    service: str, handler: str, key: str | None, hours: float, journal: int, result: bool, freed: bool, why: str
) -> None:
    db = sqlite3.connect(":memory:")
    db.execute(
        "create table i (id, target_service_name, target_handler_name, idempotency_key, completed_at, journal_size)"
    )
    completed = (NOW - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
    db.execute("insert into i values ('inv', ?, ?, ?, ?, ?)", (service, handler, key, completed, journal))
    found = outlived(SERVICES, REQUESTED, NOW)

    def selects(condition: str) -> bool:
        return bool(db.execute(f"select count(*) from i where {condition}").fetchone()[0])

    assert (selects(found.completions), selects(found.journals)) == (result, freed), why
    assert selects(found.either) is (result or freed)


def test_outlived_without_services_or_values_selects_nothing() -> None:
    assert outlived([], REQUESTED, NOW) == outlived(SERVICES, {}, NOW)
