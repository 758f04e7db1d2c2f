"""RestateEngines, from kopf's watch to all who need to know of them."""

from typing import Any

import kopf

from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND
from invocation_operator.reconcile.enginenews import EngineNews


def register(registry: kopf.OperatorRegistry, news: EngineNews) -> None:
    """Register the handler."""

    @kopf.on.event(GROUP, VERSION, ENGINE_KIND.plural, registry=registry)
    async def on_engine(event: kopf.RawEvent, **_: Any) -> None:
        news.tell(dict(event["object"]), deleted=event["type"] == "DELETED")
