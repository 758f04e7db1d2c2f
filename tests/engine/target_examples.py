"""Targets to try on a population: its own values, their neighbours, and wild ones, in every nesting."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus, Target
from invocation_operator.target.row import InvocationRow

Draw = st.SearchStrategy[Any]
WORDS = st.sampled_from(
    ["plain", "boom", "fail", "x", "'", "''", "' or '1'='1", "%", "_", "\\", "\n", "Error", "--", "é", "]"]
)


def neighbours(values: list[str]) -> Draw:
    """Texts that are, contain, begin or nearly are one of ``values``; or anything."""
    known = st.sampled_from(sorted(set(values)) or ["none"])
    return st.one_of(
        known,
        known,
        known,
        known,
        st.builds(lambda text, end: text[: max(1, end)], known, st.integers(1, 12)),
        st.builds(lambda text, more: text + more, known, WORDS),
        known.map(str.swapcase),
        known.map(lambda text: text.replace("_", "%").replace("a", "_")),
        WORDS,
        st.text(min_size=1, max_size=8),
    ).filter(lambda text: 0 < len(text) <= 256)


def patterns(values: list[str]) -> Draw:
    """Names, with and without a trailing asterisk."""
    name = neighbours(values).map(lambda text: text.replace("*", "").replace("/", "") or "x")
    return st.one_of(name, name.map(lambda text: text + "*"))


def few(values: Draw) -> Draw:
    return st.lists(values, min_size=1, max_size=4, unique=True)


def instants(moments: list[datetime]) -> Draw:
    """Times at, and microseconds to either side of, what is there; and far away."""
    near = st.builds(
        lambda moment, off: moment + timedelta(microseconds=off),
        st.sampled_from(moments),
        st.sampled_from([0, 0, 1, -1, 999, -999, 1000, -1000, 2_000_000, -2_000_000]),
    )
    far = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2261, 1, 1, tzinfo=UTC),
        datetime(2270, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]
    return st.one_of(near, near, near, st.sampled_from(far)).map(lambda moment: moment.isoformat())


DURATIONS = st.sampled_from(["0", "500us", "1500us", "3ms", "1s", "2.5s", "1h", "7304484d"])


def fields(rows: list[InvocationRow], *, scopes: bool) -> dict[str, Draw]:
    def texts(name: str) -> list[str]:
        return [value for row in rows if (value := getattr(row, name)) is not None]

    created = [row.created_at for row in rows]
    completed = [row.completed_at for row in rows if row.completed_at]
    messages = [
        message[n : n + 40]
        for message in texts("failure_message")
        for n in (0, 7, len(message) - 5)
        if message[n : n + 40]
    ]
    return {
        "services": few(patterns(texts("service"))),
        "handlers": few(patterns(texts("handler"))),
        "keys": few(neighbours(texts("key"))),
        "keyPrefixes": few(neighbours(texts("key"))),
        "statuses": few(st.sampled_from([status.value for status in InvocationStatus])),
        "outcomes": few(st.sampled_from([outcome.value for outcome in CompletionOutcome])),
        "createdBefore": instants(created),
        "createdAfter": instants(created),
        "olderThan": DURATIONS,
        "unmodifiedFor": DURATIONS,
        "completedBefore": instants(completed),
        "completedFor": DURATIONS,
        "deployments": few(st.sampled_from([*sorted(set(texts("pinned_deployment_id"))), "dp_1none"])),
        "failureCodes": few(st.sampled_from([0, 4, 41, 409, 418, 500, 503, 5000, 65535])),
        "failureMessage": st.one_of(neighbours(messages), st.sampled_from([" ", "] ", *(" " + m for m in messages)])),
        "minRetries": st.integers(1, 5),
        "invokedBy": few(patterns(texts("invoked_by"))),
        "rootsOnly": st.booleans(),
        "idempotencyKeys": few(neighbours(texts("idempotency_key"))),
        "restartedFrom": few(st.sampled_from([*texts("restarted_from"), rows[0].id, "no' id"])),
        **({"scopes": few(neighbours(texts("scope")))} if scopes else {}),
    }


def targets(rows: list[InvocationRow], *, scopes: bool = False) -> st.SearchStrategy[Target]:
    known = fields(rows, scopes=scopes)

    def leaf(least: int, most: int) -> Draw:
        names = st.lists(st.sampled_from(sorted(known)), min_size=least, max_size=most, unique=True)
        return names.flatmap(lambda chosen: st.fixed_dictionaries({name: known[name] for name in chosen}))

    branches = st.lists(leaf(1, 2), min_size=1, max_size=3)
    exclusion = st.builds(
        lambda form, any_of: form | any_of,
        leaf(0, 2),
        st.one_of(st.just({}), st.fixed_dictionaries({"anyOf": branches})),
    )
    ids = st.lists(
        st.sampled_from([*(row.id for row in rows), "inv_bogus", "' or 1=1 --", "inv_1" + "0" * 33]),
        min_size=1,
        max_size=60,
        unique=True,
    )
    more = st.fixed_dictionaries(
        {},
        optional={
            "anyOf": branches,
            "not": exclusion,
            "ids": ids,
            "oldestFirst": st.booleans(),
            "limit": st.integers(1, 30),
        },
    )
    return st.builds(lambda form, others: Target.model_validate(form | others), leaf(0, 2), more)


def moments(rows: list[InvocationRow]) -> st.SearchStrategy[datetime]:
    """When a run may start: around what happened."""
    return instants([row.modified_at for row in rows if row.modified_at]).map(datetime.fromisoformat)


STATUSES = st.one_of(st.just(frozenset(InvocationStatus)), st.frozensets(st.sampled_from(InvocationStatus), min_size=1))
