"""The rig's engine and services: reach a status, survive a crash, become unreachable and heal."""

import pytest

from e2e.rig import OLDEST, Engine, ServicesProcess


def test_engine_crashed_and_restarted_keeps_its_invocations(lab: ServicesProcess) -> None:
    with Engine() as own:
        own.register(lab.uri)
        sleeping = own.send("LabSvc", "sleep_long", 3600)
        own.wait_status(sleeping, "suspended")
        own.restart(kill=True)
        assert own.invocation(sleeping)


def test_engine_status_not_reached_tells_the_last_one(engine: Engine) -> None:
    later = engine.send("LabSvc", "echo", "x", delay="1h")
    with pytest.raises(TimeoutError, match="is scheduled after"):
        engine.wait_status(later, "completed", timeout=0.2)
    assert engine.operate(later, "kill").status == 200
    assert engine.wait_status(later, "absent") is None


def test_engine_keys_with_any_character_reach_their_object(engine: Engine) -> None:
    key = "it's 50% / ü"
    assert engine.call("LabObj", "obj_echo", "x", key=key).expect().json() == f"{key}:x"


def test_engine_command_line_talks_to_this_engine(engine: Engine) -> None:
    listed = engine.cli("services", "list").stdout
    assert "LabSvc" in listed


def test_engine_oldest_is_the_oldest(engine_old: Engine) -> None:
    assert engine_old.admin("GET", "/version").expect().json()["version"] == OLDEST


def test_services_stopped_are_unreachable_until_started_on_the_same_port(engine: Engine) -> None:
    with ServicesProcess(prefix="Gone", variant="v2") as services:
        engine.register(services.uri)
        services.stop()
        waiting = engine.send("GoneLabSvc", "variant", "x")
        engine.wait_status(waiting, "backing-off")
        services.start()
        assert engine.operate(waiting, "resume").status in {200, 202}
        engine.wait_status(waiting, "completed")


def test_services_healed_let_a_failing_invocation_finish(engine: Engine) -> None:
    with ServicesProcess(prefix="Ill") as services:
        engine.register(services.uri)
        paused = engine.send("IllLabSvc", "fail_then_pause", "x")
        engine.wait_status(paused, "paused")
        services.heal()
        assert services.world()["heal"] is True
        assert engine.operate(paused, "resume").status in {200, 202}
        row = engine.wait_status(paused, "completed")
        assert row
        assert row["completion_result"] == "success"
