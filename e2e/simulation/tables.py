"""The engine's SQL tables over the model's invocations: an in-memory SQLite that speaks what the operator asks.

Statements run as they are, so that a filter or a join means here what it says. What SQLite has by another name is
provided; what it does not know at all is an error of the model (`UnknownStatement`), never an empty answer.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from invocation_operator.values.ids import is_invocation_id

COLUMNS = (
    "id",
    "created_at",
    "status",
    "target_service_name",
    "target_handler_name",
    "target_service_key",
    "target_service_ty",
    "invoked_by",
    "invoked_by_service_name",
    "invoked_by_id",
    "restarted_from",
    "pinned_deployment_id",
    "modified_at",
    "completed_at",
    "journal_size",
    "retry_count",
    "completion_result",
    "completion_failure",
    "idempotency_key",
    "scope",
    "last_failure",
)
JOURNAL = ("id", '"index"', "entry_type", "entry_lite_json", "appended_at", "version", "raw_length")
EVENTS = ("id", "after_journal_entry_index", "appended_at", "event_type", "event_json")

_SCHEMA = f"""
create table sys_invocation ({", ".join(COLUMNS)}, primary key (id));
create table sys_journal ({", ".join(JOURNAL)});
create index journal_by_id on sys_journal (id);
create table sys_journal_events ({", ".join(EVENTS)});
create index events_by_id on sys_journal_events (id);
create table sys_deployment (id);
create table sys_service (name, deployment_id);
attach database ':memory:' as information_schema;
create table information_schema.columns (table_name, column_name);
"""
_IDS = re.compile(r"'(inv_[^']*)'")
_INDEX = re.compile(r"\bindex\b")
_TEXT = re.compile(r"('(?:[^']|'')*')")


class UnknownStatement(Exception):
    """A statement that the model cannot answer: teach it, and the conformance suite with it."""


class MalformedId(Exception):
    """An id in a statement is none: the engine answers 500 to the whole query."""


class Tables:
    """One database; `reset` empties it for the next history."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        self._db.executescript(_SCHEMA)
        self._db.execute("pragma case_sensitive_like = on")
        self._db.executemany(
            "insert into information_schema.columns values ('sys_invocation', ?)", [(name,) for name in COLUMNS]
        )
        self.now: Callable[[], str] = lambda: ""
        define = self._db.create_function
        define("now", 0, lambda: self.now())
        define("to_timestamp_millis", 1, _timestamp)
        define("strpos", 2, lambda text, part: None if text is None else text.find(part) + 1, deterministic=True)
        define("split_part", 3, _split_part, deterministic=True)
        define("json_get_str", -1, _json_get, deterministic=True)
        define("json_get_int", -1, _json_get, deterministic=True)

    def reset(self) -> None:
        """Forget all rows."""
        for table in ("sys_invocation", "sys_journal", "sys_journal_events", "sys_deployment", "sys_service"):
            self._db.execute(f"delete from {table}")

    def deployments(self, ids: Iterable[str], services: Iterable[tuple[str, str]]) -> None:
        """Replace what is said of deployments, and of the one that each service's new invocations go to."""
        self._db.execute("delete from sys_deployment")
        self._db.execute("delete from sys_service")
        self._db.executemany("insert into sys_deployment values (?)", [(id_,) for id_ in ids])
        self._db.executemany("insert into sys_service values (?, ?)", list(services))

    def put(self, row: tuple[Any, ...], journal: Iterable[tuple[Any, ...]], events: Iterable[tuple[Any, ...]]) -> None:
        """Write one invocation as it is now."""
        self.drop(row[0])
        db = self._db
        db.execute(f"insert into sys_invocation values ({', '.join('?' * len(COLUMNS))})", row)
        db.executemany("insert into sys_journal values (?, ?, ?, ?, ?, ?, ?)", journal)
        db.executemany("insert into sys_journal_events values (?, ?, ?, ?, ?)", events)

    def drop(self, id_: str) -> None:
        """Forget one invocation."""
        for table in ("sys_invocation", "sys_journal", "sys_journal_events"):
            self._db.execute(f"delete from {table} where id = ?", (id_,))

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Run a statement; null columns are left out of the rows, as the engine does."""
        if any(not is_invocation_id(id_) for id_ in _IDS.findall(sql)):
            raise MalformedId
        known = sql
        if _INDEX.search(sql) is not None:
            # A keyword here, a plain name there; texts are left alone.
            known = "".join(p if p.startswith("'") else _INDEX.sub('"index"', p) for p in _TEXT.split(sql))
        try:
            cursor = self._db.execute(known)
        except sqlite3.Error as error:
            raise UnknownStatement(f"{error}: {sql}") from error
        names = [column[0] for column in cursor.description]
        return [
            {name: value for name, value in zip(names, values, strict=True) if value is not None} for values in cursor
        ]


def _timestamp(milliseconds: int) -> str:
    from e2e.simulation.engine import written

    return written(milliseconds / 1000.0)


def _split_part(text: str | None, separator: str, number: int) -> str | None:
    if text is None:
        return None
    parts = text.split(separator)
    return parts[number - 1] if number <= len(parts) else ""


def _json_get(text: str | None, *path: str) -> Any:
    value: Any = None if text is None else json.loads(text)
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value
