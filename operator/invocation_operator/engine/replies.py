"""From what came back over HTTP, or did not, to a value or an error with a name.

Called by ``engine.transport`` and ``engine.client``. Invariants: bodies are read up to a limit; of a body only the
engine's own JSON ``message`` gets into an error; a 404 that the engine did not write is no ``NotFound`` (an ingress
without a backend must not look like an invocation that is gone).
"""

import json
import os
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from invocation_operator.engine import errors

_ERROR_LIMIT = 64 * 1024
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""TLS alerts by which the other side refuses our certificate; it has then not read a request."""

_OWN_WORDS: dict[int, type[errors.Rejected]] = {
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    425: errors.NotReady,
}
"""Statuses that say something about an invocation; only believed with the engine's message."""


async def bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, up to ``limit`` bytes after decompression; BadReply when there is more."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise errors.BadReply(f"the answer has more than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def require_json(response: aiohttp.ClientResponse) -> None:
    """BadReply unless the answer says that it is JSON."""
    media_type = _media_type(response)
    if media_type != "application/json":
        shown = media_type if _MEDIA_TYPE.fullmatch(media_type) else "of an unknown type"
        raise errors.BadReply(
            f"the answer ({response.status}) is {shown}, not JSON: is this the address of the admin API?"
        )


async def json_object(response: aiohttp.ClientResponse, limit: int) -> dict[str, Any] | None:
    """The JSON object in the body; None when the body is empty. Raises BadReply for anything else."""
    content = await bounded(response, limit)
    if not content:
        return None
    require_json(response)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise errors.BadReply("the answer is not valid JSON") from None
    if not isinstance(value, dict):
        raise errors.BadReply("the answer is not a JSON object")
    return value


async def refusal(response: aiohttp.ClientResponse, token: str | None) -> errors.EngineError:
    """The error that an answer other than 2xx means."""
    status = response.status
    if status < 400:
        return errors.BadReply(f"the answer is a redirect ({status}); none is followed: configure the final address")
    message = await _message(response, token)
    said = message or f"the engine answered {status} without a message"
    if status in (401, 403):
        return errors.Unauthorized(f"not authorized ({status})" + (f": {message}" if message else ""), status=status)
    if status == 429:
        return errors.Throttled(said, retry_after=_retry_after(response))
    if status in _OWN_WORDS:
        if message is None:
            return errors.BadReply(f"{status} that the engine did not write: is this the address of the admin API?")
        return _OWN_WORDS[status](message, status=status)
    if status == 422:
        return errors.Unprocessable(said, status=status)
    if status >= 500:
        return errors.ServerFault(said, status=status, retry_after=_retry_after(response))
    return errors.Rejected(said, status=status)


def failure(error: Exception, peer: str, *, sent: bool, hint: str = "") -> errors.EngineError:
    """The error that an exception of aiohttp, the socket or TLS means. ``peer`` is host and port; ``hint`` is what may
    be the matter when the connection is closed without a word.
    """
    if isinstance(error, aiohttp.ClientPayloadError):
        return errors.CutOff(f"the answer of {peer} ended before it was complete")
    if isinstance(error, aiohttp.ClientResponseError):
        return errors.BadReply(f"the answer of {peer} is not HTTP")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return errors.CertificateInvalid(f"the certificate of {peer} is not accepted: {cause}")
    text = str(getattr(error, "os_error", error))  # str(error) fails for some host names
    if any(f"ALERT_{alert}" in text for alert in _ALERTS):
        return errors.CertificateInvalid(f"{peer} does not accept the client certificate: look at the clientCertSecret")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        reason = getattr(error.os_error, "reason", None) or "handshake failed"
        hint = "; it may want a client certificate" if "ALERT_HANDSHAKE_FAILURE" in text else ""
        return errors.Unreachable(f"no TLS with {peer} ({reason}){hint}", sent=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return errors.Unreachable(f"the host of {peer} is not known to DNS", sent=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.Unreachable(f"no connection to {peer} within the timeout", sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        cause = os.strerror(number) if number is not None and number > 0 else "it was closed during the handshake"
        return errors.Unreachable(f"no connection to {peer}: {cause}", sent=False)
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return errors.Unreachable(f"the URL of {peer} cannot be used", sent=False)
    if isinstance(error, TimeoutError):
        return errors.Unreachable(f"no answer from {peer} within the timeout", sent=sent)
    if isinstance(error, ssl.SSLError):
        return errors.Unreachable(f"TLS with {peer} failed ({error.reason})", sent=sent)
    return errors.Unreachable(f"{peer} closed the connection before it answered{hint}", sent=sent)


async def _message(response: aiohttp.ClientResponse, token: str | None) -> str | None:
    """The engine's ``message``, without the token should it be echoed."""
    if _media_type(response) != "application/json":
        return None
    try:
        value = json.loads(await bounded(response, _ERROR_LIMIT))
    except (ValueError, RecursionError, errors.BadReply, aiohttp.ClientPayloadError):
        return None
    message = value.get("message") if isinstance(value, dict) else None
    if not isinstance(message, str) or not message.strip():
        return None
    return message.replace(token, "***") if token else message


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds; the header holds seconds or a date (RFC 9110, 10.2.3). At most a day."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else _until(value)
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), 86400.0)


def _until(value: str) -> float:
    moment = parsedate_to_datetime(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
