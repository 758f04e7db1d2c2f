"""Guardrails that are tightened while a run is under way."""

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec
from invocation_operator.plan.guardrails import Reach
from invocation_operator.reconcile.ceilings import Ceilings
from invocation_operator.reconcile.station import Resolved
from tests.unit.reconcile.test_engines import House, a_house, spelled

SPEC = ActionSpec.model_validate({"action": "Cancel", "target": {"services": ["checkout"]}})
REACH = Reach(3, frozenset({"checkout", "payment"}))
BY_NAMESPACE = {"namespaces": [{"selector": {"matchLabels": {"team": "a"}}}]}


def ceilings(house: House, resolved: Resolved) -> Ceilings:
    return Ceilings(house.engines, resolved, SPEC, REACH, "shop")


async def test_ceilings_of_any_engine_that_leads_there_hold_from_the_moment_they_are_known() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        found = ceilings(house, await house.resolve("shop"))
        assert found.broken() is None
        house.define("ops", url=spelled(admin.url), guardrails={"protectedServices": ["payment"]})
        told = found.broken()
        assert told is not None
        assert "ops/engine" in told
        assert "payment" in told
        house.define("ops", url="http://elsewhere.example", guardrails={"protectedServices": ["payment"]})
        assert found.broken() is None
        house.define("shop", url=admin.url, guardrails={"maxTargets": 2})
        assert "shop/engine" in (found.broken() or "")


async def test_ceilings_are_judged_once_for_each_change_of_what_is_known() -> None:
    async with a_house() as (house, admin):
        house.kube.namespace("shop", team="a")
        house.define("shop", url=admin.url, guardrails=BY_NAMESPACE)
        found = ceilings(house, await house.resolve("shop"))
        assert found.broken() is None
        asked: list[str] = []
        house.engines.guardrails_at = lambda address: asked.append(address) or []  # type: ignore[method-assign,func-returns-value]
        assert [found.broken() for _ in range(100)] == [None] * 100
        assert asked == []
        house.define("shop", url=admin.url, guardrails={"maxTargets": 5})
        assert [found.broken() for _ in range(100)] == [None] * 100
        assert len(asked) == 1


async def test_ceilings_by_namespace_wait_for_its_labels_that_nobody_had_asked_for() -> None:
    async with a_house() as (house, admin):
        house.kube.namespace("shop", team="a")
        house.define("shop", url=admin.url)
        found = ceilings(house, await house.resolve("shop"))
        house.define("shop", url=admin.url, guardrails=BY_NAMESPACE)
        assert found.broken() is None, "not known yet"
        house.define("shop", url=admin.url, guardrails={**BY_NAMESPACE, "maxTargets": 2})
        assert "maxTargets" in (found.broken() or ""), "what needs no labels holds at once"
        house.define("shop", url=admin.url, guardrails=BY_NAMESPACE)
        await found.learn()
        assert found.broken() is None
        house.define("shop", url=admin.url, guardrails={"namespaces": [{"selector": {"matchLabels": {"team": "b"}}}]})
        assert "namespace" in (found.broken() or "")


async def test_ceilings_by_namespace_stop_the_run_when_its_labels_may_not_be_read() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        found = ceilings(house, await house.resolve("shop"))
        house.kube.forbidden.add("namespaces")
        await found.learn()
        assert found.broken() is None
        house.define("shop", url=admin.url, guardrails=BY_NAMESPACE)
        assert "may not read the labels" in (found.broken() or "")


@pytest.mark.parametrize("approved", [True, False])
async def test_ceilings_that_ask_for_an_approval_stop_only_what_has_none(approved: bool) -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        resolved = await house.resolve("shop")
        found = Ceilings(house.engines, resolved, SPEC, REACH, "shop", approved=approved)
        house.define("shop", url=admin.url, guardrails={"requireApprovalFor": ["Cancel"]})
        assert (found.broken() is None) is approved
