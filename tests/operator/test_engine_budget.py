"""The budget of an engine, over several actions and several RestateEngines that lead there."""

from tests.operator.conftest import Stage
from tests.operator.fronts import fronted


def test_budget_holds_over_all_actions_on_all_engine_objects_of_one_engine(stage: Stage) -> None:
    most = 4
    ids = [stage.send("saga_long", 3600.0) for _ in range(10)]
    stage.engine.wait_status(ids[-1], "suspended")
    with fronted(stage) as it:
        it.define()
        it.define("other", url=it.front.url.replace("127.0.0.1", "localhost") + "/", limits={"maxInFlight": most})
        it.engine_says("Reachable", name="other")
        it.act("one", "Cancel", {"ids": ids[:5]}, "front")
        it.act("two", "Cancel", {"ids": ids[5:]}, "other")
        highest = 0
        while {stage.get(name)["status"].get("phase") for name in ("one", "two")} != {"Succeeded"}:
            # In this order, what is seen as asked and not ended was in flight all the while in between.
            asked = {row["id"] for row in _cancelled(stage, ids)}
            alive = {row["id"] for row in _alive(stage, ids)}
            highest = max(highest, len(asked & alive))
            assert highest <= most
        assert highest > 1
        assert len(_cancelled(stage, ids)) == len(ids)


def _alive(stage: Stage, ids: list[str]) -> list[dict[str, str]]:
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    return stage.engine.sql(f"select id from sys_invocation where id in ({listed}) and status <> 'completed'")


def _cancelled(stage: Stage, ids: list[str]) -> list[dict[str, str]]:
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    return stage.engine.sql(
        f"select id from sys_journal where id in ({listed}) and entry_type = 'Notification: Signal' "
        "and entry_lite_json like '%\"SignalIndex\":1}%'"
    )
