"""What the engine itself knows about the effects of an operation, compared with what status and record tell.

Every function returns sentences about what is wrong, none when all is as it should be, so that one failure says
everything that is known.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from e2e.rig import Engine, ServicesProcess
from e2e.scenarios.lane import Lane
from e2e.scenarios.sagas import CANCEL, story

Problems = list[str]
LOOKED_AT = 5
"""Invocations of which everything is told when something is wrong."""


def listed(ids: Sequence[str]) -> str:
    return ", ".join(f"'{id_}'" for id_ in ids)


def none(problems: Problems) -> None:
    """Fail, and tell all of them."""
    assert not problems, "\n".join(problems)


def evidence(engine: Engine, problems: Problems) -> Problems:
    """The problems, and what the engine keeps of the first invocations that they name: it is gone soon after."""
    named = list(dict.fromkeys(re.findall(r"inv_\w+", "\n".join(problems))))[:LOOKED_AT]
    told = list(problems)
    for id_ in named:
        mine = f"where id = '{id_}'"
        for what, query in (
            ("row", f"select * from sys_invocation {mine} or restarted_from = '{id_}'"),
            ("journal", f"select index, entry_type, name, appended_at from sys_journal {mine} order by index"),
            (
                "events",
                f"select event_type, appended_at, event_json from sys_journal_events {mine} order by appended_at",
            ),
        ):
            told += [f"  {what} of {id_}: {row}" for row in engine.sql(query)]
    return told


def children(engine: Engine, ids: Sequence[str]) -> Counter[str]:
    """How many invocations were restarted from each."""
    found: Counter[str] = Counter()
    for start in range(0, len(ids), 500):
        some = listed(ids[start : start + 500])
        rows = engine.sql(f"select restarted_from from sys_invocation where restarted_from in ({some})")
        found.update(row["restarted_from"] for row in rows)
    return found


def one_child_each(engine: Engine, ids: Sequence[str]) -> Problems:
    found = children(engine, ids)
    return [f"{id_} has {found[id_]} children, not 1" for id_ in ids if found[id_] != 1]


def cancel_signals(engine: Engine, ids: Sequence[str]) -> Counter[str]:
    """How many cancel signals each journal holds."""
    rows = engine.sql(f"select id from sys_journal where id in ({listed(ids)}) and {CANCEL}")
    return Counter(row["id"] for row in rows)


def pauses(engine: Engine, ids: Sequence[str]) -> Counter[str]:
    """How often each came to be paused."""
    paused = "event_type = 'Paused'"
    return Counter(
        row["id"] for row in engine.sql(f"select id from sys_journal_events where id in ({listed(ids)}) and {paused}")
    )


def rows(engine: Engine, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in engine.sql(f"select * from sys_invocation where id in ({listed(ids)})")}


def statuses(engine: Engine, ids: Sequence[str], wanted: str) -> Problems:
    found = rows(engine, ids)
    return [
        f"{id_} is {found[id_]['status'] if id_ in found else 'absent'}, not {wanted}"
        for id_ in ids
        if (found[id_]["status"] if id_ in found else "absent") != wanted
    ]


def ended_as(engine: Engine, ids: Sequence[str], failure: str) -> Problems:
    """Completed, with that word in the failure."""
    found = rows(engine, ids)
    problems = statuses(engine, ids, "completed")
    for id_ in ids:
        said = str(found.get(id_, {}).get("completion_failure"))
        if id_ in found and failure not in said:
            problems.append(f"{id_} ended as {said}, not {failure}")
    return problems


def cancelled_once(engine: Engine, lab: ServicesProcess, ids: Sequence[str]) -> Problems:
    """Cancelled by one signal and compensated once each; a step that the engine ran again is told, and no problem."""
    problems = ended_as(engine, ids, "cancelled")
    signals, world = cancel_signals(engine, ids), lab.world()
    compensated = Counter(world["compensations"])
    problems += [f"{id_} has {signals[id_]} cancel signals, not 1" for id_ in ids if signals[id_] != 1]
    for id_ in ids:
        if compensated[id_] == 1:
            continue
        seen = story(engine, id_, world["sagas"].get(id_, ()))
        told = f"{id_} was compensated {compensated[id_]} times, not once\n{seen}"
        if seen.step_was_run_again:
            print(f"the engine ran a step again: {told}", flush=True)
        else:
            problems.append(told)
    return problems


def told(lane: Lane, name: str, effective: int) -> Problems:
    """Status and record of a run that ended well: one record, true counts, nothing unknown."""
    obj, records = lane.get(name), lane.records(name)
    problems = [] if len(records) == 1 else [f"{name} has {len(records)} records, not 1"]
    views = [("status", obj.get("status", {}))] + [("record", record.get("status", {})) for record in records]
    for where, status in views:
        if status.get("phase") != "Succeeded":
            problems.append(f"{where} of {name} says {status.get('phase')}, not Succeeded: {status.get('message')}")
        counted = {key: value for key, value in status.get("progress", {}).items() if isinstance(value, int) and value}
        wanted = {"total": effective, "done": effective, "percent": 100, "effective": effective}
        if counted != wanted:
            problems.append(f"{where} of {name} counts {counted}, not {wanted}; results {status.get('results')}")
    ready = [c["status"] for c in obj.get("status", {}).get("conditions", ()) if c["type"] == "Ready"]
    if ready != ["True"]:
        problems.append(f"{name} is not Ready: {obj.get('status', {}).get('conditions')}")
    if obj["metadata"].get("finalizers"):
        problems.append(f"{name} keeps finalizers {obj['metadata']['finalizers']}")
    return problems
