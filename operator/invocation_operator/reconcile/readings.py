"""Objects that a crowd asks for at the same moment: each is read once for all of them.

A thousand actions that are applied together name one RestateEngine and lie in one namespace. Nobody gets an answer to a
request that was sent before they asked (``engine.rounds``), so what is read is as fresh as if each had read it alone.
"""

from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.engine.rounds import Rounds


class Readings:
    """Single objects by kind, namespace and name. Who gets one shares it, and changes nothing in it."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._rounds: dict[tuple[str, str | None, str], Rounds[Object]] = {}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Return an object. Raises the errors of ``cluster.errors``."""
        key = (resource.path(), namespace, name)
        rounds = self._rounds.get(key)
        if rounds is None:
            rounds = self._rounds[key] = Rounds(lambda: self._client.get(resource, namespace, name))
        try:
            return await rounds()
        finally:
            if rounds.idle:
                self._rounds.pop(key, None)
