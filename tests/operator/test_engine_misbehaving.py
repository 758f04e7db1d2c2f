"""An engine behind a front that misbehaves: what the RestateEngine says, and an action that waits for it; healing."""

from e2e.rig.front import Misbehaviour as M
from tests.operator.conftest import Stage, conditions
from tests.operator.fronts import fronted, message_of

CASES = {
    M.HTML: ("BadReply", "admin API"),
    M.CUT_JSON: ("BadReply", "admin API"),
    M.CUT_STREAM: ("BadReply", "admin API"),
    M.REDIRECT: ("BadReply", "redirect"),
    M.UNAUTHORIZED: ("Unauthorized", "bearerTokenSecret"),
    M.FORBIDDEN: ("Unauthorized", "bearerTokenSecret"),
    M.UNAVAILABLE: ("Unreachable", "the engine runs"),
    M.TOO_MANY: ("Throttled", "by itself"),
    M.CLOSE: ("Unreachable", "the engine runs"),
    M.HANG: ("Unreachable", "within the timeout"),
}


def test_front_that_misbehaves_is_told_with_what_to_do_and_heals(stage: Stage) -> None:
    """Each gets a RestateEngine and an action of its own; in the end the front behaves, and all of them go on."""
    with fronted(stage) as it:
        names = {}
        for how, (reason, hint) in CASES.items():
            name = names[how] = how.name.lower().replace("_", "-")
            it.front.misbehave(how)
            it.define(name)
            it.cancel(stage.send("sleep_long", 3600.0), name, name)
            found = it.engine_says(reason, name=name)
            assert hint in message_of(found), how
            assert conditions(found) == {"Ready": ("False", reason), "Reconciling": ("True", reason)}
            assert found["status"]["url"] == it.front.url
            assert hint in it.waits(reason, name), how
        assert not it.front.writes()
        it.front.behave()
        for how, name in names.items():
            assert stage.ended(name, timeout=60)["status"]["phase"] == "Succeeded", how
            it.engine_says("Reachable", name=name)


def test_engine_that_only_queries_badly_is_waited_for_before_anything_is_asked(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define()
        it.engine_says("Reachable")
        it.front.misbehave(M.CUT_STREAM, "/query")
        it.cancel(id_)
        it.waits("BadReply")
        assert stage.status_of(id_) == "suspended"
        assert not it.front.writes()
        it.front.behave()
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"


def test_engine_that_is_down_is_unreachable(stage: Stage) -> None:
    with fronted(stage) as it:
        it.define()
        it.define("nowhere", url="http://no-such-host.invalid:9070")
        it.engine_says("Reachable")
        it.front.stop()
        assert "admit the operator" in message_of(it.engine_says("Unreachable"))
        assert "not known to DNS" in message_of(it.engine_says("Unreachable", name="nowhere"))
