"""One pipeline for all logs: ours by structlog, kopf's and other libraries' by the standard library's logging.

One line for each decision, with object, action, run and counts; JSON when nobody watches a terminal. Credentials never
get here: they live in ``engine.models.Connection``, which does not print them.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor

_QUIET = {
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "kopf": logging.WARNING,
    "kubernetes": logging.ERROR,
    "stamina": logging.WARNING,
}
"""Libraries are heard from this level on, whatever is asked for: kopf has a line for each event of each object, and
``kubernetes`` prints whole replies when debugging, Secrets too."""
_NOISE = ("settings", "k8s_skip")
"""What kopf attaches to its log records for itself."""


def configure(*, json: bool, level: str, stream: TextIO | None = None) -> None:
    """Set up logging for the process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_noise,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *[p for p in shared if not isinstance(p, structlog.stdlib.ExtraAdder)],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderers: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json:
        renderers += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The other formatter prints local variables, credentials among them.
        plain = structlog.dev.plain_traceback
        renderers += [structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=renderers))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def _without_noise(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name in _NOISE:
        event.pop(name, None)
    if isinstance(subject := event.pop("k8s_ref", None), dict):
        event.setdefault("object", f"{subject.get('namespace')}/{subject.get('name')}")
    return event
