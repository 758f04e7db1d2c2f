"""InvocationActions, from kopf's watch to their workbench."""

from typing import Any

import kopf

from invocation_operator.api.v1alpha1.action import ACTION_KIND
from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.reconcile.workbench import Workbench


def register(registry: kopf.OperatorRegistry, bench: Workbench) -> None:
    """Register the handler."""

    @kopf.on.event(GROUP, VERSION, ACTION_KIND.plural, registry=registry)
    async def on_action(event: kopf.RawEvent, **_: Any) -> None:
        bench.observe(dict(event["object"]), deleted=event["type"] == "DELETED")
