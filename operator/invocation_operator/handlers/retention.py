"""RetentionPolicies, from kopf's watch to what is known of policies and to their workbench."""

from collections.abc import Callable
from functools import partial
from typing import Any

import kopf

from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND
from invocation_operator.cluster.client import Object
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.workbench import Workbench


def register(
    registry: kopf.OperatorRegistry,
    policies: Policies,
    bench: Workbench,
    sweeps: Workbench,
    forget: Callable[[Object], None],
) -> Callable[[Object], None]:
    """Register the handler. ``forget`` is told of policies that are gone.

    Returns what takes in that a policy is gone, for whoever finds out before the watch, or instead of it.
    """

    def observe(obj: Object, *, deleted: bool) -> None:
        changed = policies.observe(obj, deleted=deleted)
        bench.observe(obj, deleted=deleted)
        sweeps.observe(obj, deleted=deleted)
        if deleted:
            forget(obj)
        if changed:
            # What one of them claims, or lets go, concerns the others.
            bench.ring_all()

    @kopf.on.event(GROUP, VERSION, RETENTION_KIND.plural, registry=registry)
    async def on_policy(event: kopf.RawEvent, **_: Any) -> None:
        observe(dict(event["object"]), deleted=event["type"] == "DELETED")

    return partial(observe, deleted=True)
