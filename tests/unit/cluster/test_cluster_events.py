"""Events are told in the background, whatever goes wrong with one of them."""

import asyncio
import re
from typing import Any, cast

import pytest

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden
from invocation_operator.cluster.events import EventRecorder

OBJ: Object = {"metadata": {"name": "a", "namespace": "shop", "uid": "u"}}


class Teller:
    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.told: list[str] = []
        self.named: list[str] = []

    async def create(self, _resource: Any, _namespace: str, body: Object) -> Object:
        if self.faults:
            raise self.faults.pop(0)
        self.told.append(body["reason"])
        self.named.append(body["metadata"]["name"])
        return body


async def test_events_go_on_after_any_failure() -> None:
    teller = Teller(Forbidden("403"), RuntimeError("a mistake"))
    events = EventRecorder(cast("KubeClient", teller), "me")
    task = asyncio.create_task(events.run())
    for reason in ("One", "Two", "Three"):
        events.tell(OBJ, reason, "message")
    await events.drain(5.0)
    assert teller.told == ["Three"]
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("cut_at", ["-", ".", "-.-", "b"])
async def test_events_of_what_has_the_longest_name_have_one_that_is_taken(cut_at: str) -> None:
    name = "a" * (220 - len(cut_at)) + cut_at + "c" * 33
    assert len(name) == 253
    teller = Teller()
    events = EventRecorder(cast("KubeClient", teller), "me")
    task = asyncio.create_task(events.run())
    events.tell({"metadata": {**OBJ["metadata"], "name": name}}, "One", "message")
    await events.drain(5.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (named,) = teller.named
    assert len(named) <= 253
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", part) for part in named.split("."))
