"""Serve one of the sample applications over HTTP/1.1 and HTTP/2 on loopback.

    python -m e2e.services.serve lab --port 29080

One process on purpose (hypercorn's own command starts a second one), so that a
signal to its id reaches the server itself. Beside the services there is `/_world`,
the switches of the outside world that handlers look at: GET reads, PUT changes.
"""

import argparse
import asyncio
import importlib
import json
import os
import signal
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config


def with_world(app: Any, world: dict[str, Any]) -> Any:
    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/_world":
            await app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] == "PUT":
            world.update(json.loads(body))
        # The caller compares it with what it gave us, to know that we are the server that it started.
        headers = [(b"content-type", b"application/json"), (b"x-rig", os.environ.get("RIG_NAME", "").encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(world).encode()})

    return outer


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", choices=["bulk", "lab", "shop"])
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    module = importlib.import_module(f"e2e.services.{given.application}")
    config = Config()
    config.bind = [f"127.0.0.1:{given.port}"]
    config.loglevel = "WARNING"
    # One connection of the engine carries many invocations, some of them for hours.
    config.h2_max_concurrent_streams = 2_147_483_647
    config.keep_alive_timeout = 3600
    config.graceful_timeout = 0.2
    stopped = asyncio.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(wanted, stopped.set)

    async def until_stopped() -> None:
        await stopped.wait()

    await serve(with_world(module.app, module.WORLD), config, shutdown_trigger=until_stopped)


if __name__ == "__main__":
    asyncio.run(main())
