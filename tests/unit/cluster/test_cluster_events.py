"""Events are told in the background, whatever goes wrong with one of them."""

import asyncio
from typing import Any, cast

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden
from invocation_operator.cluster.events import EventRecorder

OBJ: Object = {"metadata": {"name": "a", "namespace": "shop", "uid": "u"}}


class Teller:
    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.told: list[str] = []

    async def create(self, _resource: Any, _namespace: str, body: Object) -> Object:
        if self.faults:
            raise self.faults.pop(0)
        self.told.append(body["reason"])
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
