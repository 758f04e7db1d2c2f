"""`python -m e2e.bench.barehandler NAMESPACE RECORDS TEMPLATE`: a kopf handler that makes the operator's writes only.

For each InvocationAction in NAMESPACE: a record in the namespace RECORDS, its end, the object's two statuses and two
Events, copied from TEMPLATE (JSON). It reads no engine, plans nothing and asks nothing: what is left is what kopf and
the API server cost. Same client, same settings, one task for each object, as in the operator.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration

from invocation_operator.cluster.client import KubeClient, Object, load_configuration
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import ACTIONS, RECORDS


class Handler:
    """Writes what the template says, for each object once."""

    def __init__(self, client: KubeClient, events: EventRecorder, records: str, template: dict[str, Any]) -> None:
        self._client, self._events, self._records, self._template = client, events, records, template
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()

    def observe(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        if uid in self._known:
            return
        self._known.add(uid)
        task = asyncio.create_task(self._write(obj))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, obj: Object) -> None:
        template, metadata = self._template, obj["metadata"]
        name = f"bare-{metadata['uid']}"
        body = {**template["record"], "metadata": {"name": name, "namespace": self._records}}
        record = await self._client.create(RECORDS, self._records, body)
        await self._patch(metadata, template["running"])
        self._events.tell(obj, "Started", "one invocation.")
        await self._client.replace_status(RECORDS, self._records, name, {**record, "status": template["recordStatus"]})
        await self._patch(metadata, template["done"])
        self._events.tell(obj, "Succeeded", "one invocation.")

    async def _patch(self, metadata: Object, status: Object) -> None:
        body = {"metadata": {"uid": metadata["uid"]}, "status": status}
        await self._client.patch_status(ACTIONS, metadata["namespace"], metadata["name"], body)


async def main() -> None:
    namespace, records, template = sys.argv[1:]
    configuration = await load_configuration(None)
    registry = kopf.OperatorRegistry()
    async with KubeClient(configuration) as client:
        events = EventRecorder(client, "bare")
        handler = Handler(client, events, records, json.loads(Path(template).read_text()))
        _register(registry, configuration, handler.observe)
        telling = asyncio.create_task(events.run())
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        await kopf.operator(registry=registry, settings=settings, standalone=True, namespaces=[namespace])
        telling.cancel()


def _register(registry: kopf.OperatorRegistry, configuration: Configuration, observe: Callable[[Object], None]) -> None:
    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        scheme, _sep, token = (header or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            token=token or None,
            scheme=scheme or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    @kopf.on.event("ops.restate.dev", "v1alpha1", "invocationactions", registry=registry)
    async def on_action(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] != "DELETED":
            observe(dict(event["object"]))


if __name__ == "__main__":
    asyncio.run(main())
