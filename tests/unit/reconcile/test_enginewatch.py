"""Whether a run that is taken over meets the cluster that it was planned on, all of whose deployments may be new."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine.models import EngineIdentity
from invocation_operator.plan.targets import Planned, PlannedSet
from invocation_operator.reconcile.control import Stop
from invocation_operator.reconcile.enginewatch import WITNESSES, EngineWatch

BORN = datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


class Cluster:
    """An engine, as a watch asks it."""

    def __init__(self, *rows: tuple[int, datetime]) -> None:
        self.deployments = frozenset({"dp_new"})
        self.found = [{"id": inv(number), "created_at": born.isoformat()} for number, born in rows]
        self.asked: list[list[str]] = []
        self.control: Any = SimpleNamespace(final=None)

    async def identity(self) -> EngineIdentity:
        return EngineIdentity("c", None, self.deployments)

    async def rows(self, ids: list[str], _: object, *, scopes_supported: bool) -> list[dict[str, str]]:
        self.asked.append(ids)
        return [row for row in self.found if row["id"] in ids]

    def watch(self, *known: str, planned: int = 3) -> EngineWatch:
        targets = PlannedSet(Planned(inv(n), BORN, InvocationStatus.RUNNING, "S/h") for n in range(planned))
        offered = SimpleNamespace(capabilities=SimpleNamespace(scopes=True))
        resolved = SimpleNamespace(station=SimpleNamespace(client=self, named=self), probe=offered)
        engines = SimpleNamespace(replaced=lambda _: False)
        seen = EngineIdentity("c", None, frozenset(known))
        return EngineWatch(cast("Any", engines), cast("Any", resolved), self.control, seen, targets)


async def test_cluster_whose_deployments_were_all_replaced_is_known_by_an_invocation_of_the_run() -> None:
    cluster = Cluster((1, BORN))
    watch = cluster.watch("dp_old")
    await watch.confirm()
    await watch.confirm()
    assert cluster.control.final is None
    assert len(cluster.asked) == 1, "from then on it is known by its deployments"
    cluster.deployments = frozenset({"dp_other"})
    await watch.confirm()
    assert cluster.control.final is Stop.ENGINE_CHANGED
    assert len(cluster.asked) == 1, "nobody replaces all of them between two looks"


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="it has none of them"),
        pytest.param([(1, BORN + timedelta(milliseconds=1))], id="a key gave the same id there"),
    ],
)
async def test_cluster_that_knows_neither_deployments_nor_invocations_is_another_one(
    rows: list[tuple[int, datetime]],
) -> None:
    cluster = Cluster(*rows)
    await cluster.watch("dp_old").confirm()
    assert cluster.control.final is Stop.ENGINE_CHANGED


async def test_cluster_is_asked_for_few_invocations_of_a_large_set() -> None:
    cluster = Cluster((WITNESSES * 2 - 1, BORN))
    await cluster.watch("dp_old", planned=WITNESSES * 2).confirm()
    assert cluster.control.final is None
    assert [len(ids) for ids in cluster.asked] == [WITNESSES]
