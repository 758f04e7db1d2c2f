"""Objects that a crowd asks for: read once for all, and afresh for whoever comes later."""

import asyncio
from typing import Any, cast

import pytest

from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ObjectNotFound
from invocation_operator.cluster.resources import ENGINES, NAMESPACES
from invocation_operator.reconcile.readings import Readings


class Kube:
    """Answers with the number of the request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str]] = []

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        self.asked.append((resource.plural, namespace, name))
        await asyncio.sleep(0)
        if name == "gone":
            raise ObjectNotFound("gone")
        return {"number": len(self.asked)}


def readings(kube: Kube) -> Readings:
    return Readings(cast("KubeClient", kube))


async def test_crowd_reads_an_object_once_and_different_objects_each() -> None:
    kube = Kube()
    made = readings(kube)
    wanted: list[Any] = [
        (ENGINES, "shop", "a"),
        (ENGINES, "shop", "b"),
        (ENGINES, "other", "a"),
        (NAMESPACES, None, "a"),
    ]
    await asyncio.gather(*(made.get(*one) for one in wanted * 50))
    assert sorted(kube.asked, key=str) == sorted(((one[0].plural, *one[1:]) for one in wanted), key=str)


async def test_whoever_comes_later_gets_what_is_there_then() -> None:
    kube = Kube()
    made = readings(kube)
    assert await made.get(ENGINES, "shop", "a") == {"number": 1}
    assert await made.get(ENGINES, "shop", "a") == {"number": 2}
    assert not made._rounds, "nothing is kept of what nobody asks for"


async def test_object_that_is_gone_is_gone_for_all() -> None:
    kube = Kube()
    made = readings(kube)
    answers = await asyncio.gather(*(made.get(ENGINES, "shop", "gone") for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, ObjectNotFound) for answer in answers)
    assert len(kube.asked) == 1
    with pytest.raises(ObjectNotFound):
        await made.get(ENGINES, "shop", "gone")
    assert not made._rounds
