"""InvocationActions, from kopf's watch to their workbench and to the TTLs."""

from typing import Any

import kopf

from invocation_operator.api.v1alpha1.action import ACTION_KIND
from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.reconcile.expiry import Expiry
from invocation_operator.reconcile.workbench import Workbench


def register(registry: kopf.OperatorRegistry, bench: Workbench, expiry: Expiry) -> None:
    """Register the handler."""

    @kopf.on.event(GROUP, VERSION, ACTION_KIND.plural, registry=registry)
    async def on_action(event: kopf.RawEvent, **_: Any) -> None:
        obj, deleted = dict(event["object"]), event["type"] == "DELETED"
        bench.observe(obj, deleted=deleted)
        expiry.observe(obj, deleted=deleted)
