"""The gate: CRDs that are older than the operator, or may not be looked at, let nothing through."""

import asyncio
from typing import cast

import pytest

from invocation_operator.api.v1alpha1.base import SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.resources import CRDS
from invocation_operator.reconcile.schema import KINDS, RELY_SECONDS, SchemaGate
from invocation_operator.reconcile.waiting import Waiting
from tests.unit.reconcile.fake_kube import FakeKube


class House:
    def __init__(self, revision: str | None = str(SCHEMA_REVISION)) -> None:
        self.kube = FakeKube()
        self.now = 0.0
        self.gate = SchemaGate(cast("KubeClient", self.kube), lambda: self.now)
        self.install(revision)

    def install(self, revision: str | None) -> None:
        noted = {} if revision is None else {SCHEMA_REVISION_ANNOTATION: revision}
        for kind in KINDS:
            self.kube.put(CRDS, None, kind.crd_name, metadata={"annotations": noted})

    async def reason(self) -> str | None:
        try:
            await self.gate.check()
        except Waiting as waiting:
            return waiting.reason
        return None


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        pytest.param(str(SCHEMA_REVISION), None, id="ours"),
        pytest.param(str(SCHEMA_REVISION + 1), None, id="newer"),
        pytest.param(str(SCHEMA_REVISION - 1), "CRDsOutdated", id="older"),
        pytest.param(None, "CRDsOutdated", id="before there were any"),
        pytest.param("one", "CRDsOutdated", id="no number"),
    ],
)
async def test_gate_compares_the_revision(revision: str | None, reason: str | None) -> None:
    assert await House(revision).reason() == reason


async def test_gate_without_the_right_to_look_says_so() -> None:
    house = House()
    house.kube.forbidden.add(CRDS.plural)
    with pytest.raises(Waiting, match="role") as caught:
        await house.gate.check()
    assert caught.value.reason == "Forbidden"


@pytest.mark.parametrize("revision", [str(SCHEMA_REVISION), "0"])
async def test_gate_looks_once_for_a_crowd_and_again_a_moment_later(revision: str) -> None:
    house = House(revision)
    looks = len(KINDS) if revision != "0" else 1
    first = await asyncio.gather(*(house.reason() for _ in range(100)))
    assert len(set(first)) == 1
    assert len(house.kube.asked) == looks
    house.install(str(SCHEMA_REVISION))
    house.now += RELY_SECONDS
    assert await house.reason() is None
    assert len(house.kube.asked) == looks + len(KINDS)
