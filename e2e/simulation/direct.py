"""The Kubernetes client on the model API server with nothing in between: for tests of single rooms."""

import json
from typing import Any

from e2e.simulation.apiserver import ApiServer
from e2e.simulation.wires import Response
from invocation_operator.cluster.client import REQUEST_TIMEOUT_SECONDS, KubeClient


class DirectKube(KubeClient):
    """Answers at once; every request is in `asked`."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.asked: list[str] = []
        self._api = self
        self._host = ""
        self._timeout_seconds = REQUEST_TIMEOUT_SECONDS
        self._may_write = lambda: True
        self.rest_client = self

    async def update_params_for_auth(self, *_: Any) -> None:
        """Nobody asks who it is."""

    async def close(self) -> None:
        """Nothing is open."""

    async def request(
        self, method: str, url: str, *, headers: dict[str, str], body: Any = None, _request_timeout: float = 15.0
    ) -> Response:
        self.asked.append(f"{method} {url}")
        found = self.server.request(method, url, body, headers.get("Accept", ""))
        return Response(found.status, "application/json", json.dumps(found.body).encode())
