"""RestateEngines, from kopf's watch to what is known of engines and to their workbench."""

from collections.abc import Callable
from typing import Any

import kopf

from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.workbench import Workbench


def register(
    registry: kopf.OperatorRegistry, engines: Engines, bench: Workbench, ring_users: Callable[[], None]
) -> None:
    """Register the handler. ``ring_users`` wakes what refers to engines: a change may concern it."""

    @kopf.on.event(GROUP, VERSION, ENGINE_KIND.plural, registry=registry)
    async def on_engine(event: kopf.RawEvent, **_: Any) -> None:
        obj, deleted = dict(event["object"]), event["type"] == "DELETED"
        if engines.observe(obj, deleted=deleted):
            ring_users()
        bench.observe(obj, deleted=deleted)
