"""Which URLs an engine may have, by patterns that whoever runs the operator has set.

A URL is taken apart before it is compared, piece by piece: what looks like an allowed host may stand in a path.
Called when the settings are read, and before an engine is connected to.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_HOST = re.compile(r"[0-9a-z_*:]([-0-9a-z_.:*]{0,251}[0-9a-z_*])?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """``scheme://host[:port][/path]``: ``*`` is any part of a host, or any port; a path stands for all below it."""

    scheme: str
    host: str
    port: int | None
    """None: any."""
    path: str

    @classmethod
    def parse(cls, text: str) -> "UrlPattern":
        """Read a pattern. Raises ValueError with what is wrong with it."""
        scheme, separator, rest = text.partition("://")
        authority, _, path = rest.partition("/")
        if scheme not in _PORTS or not separator:
            raise ValueError(f"{text!r} must begin with http:// or https://")
        host, port = _split(authority.lower())
        if not _HOST.fullmatch(host) or any(character in path for character in "?#*"):
            raise ValueError(f"{text!r} is no pattern such as https://*.example.com:9070/path")
        if port == "*":
            return cls(scheme, host, None, path.strip("/"))
        if not port.isdigit() and port:
            raise ValueError(f"{text!r} has a port that is no number")
        return cls(scheme, host, int(port) if port else _PORTS[scheme], path.strip("/"))

    def admits(self, url: str) -> bool:
        """Whether an engine may be there."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
        glob = ".*".join(re.escape(piece) for piece in self.host.split("*"))
        if parts.scheme != self.scheme or not host or re.fullmatch(glob, host) is None:
            return False
        if self.port is not None and (parts.port or _PORTS[self.scheme]) != self.port:
            return False
        segments = [segment for segment in unquote(parts.path).split("/") if segment not in ("", ".")]
        wanted = [segment for segment in self.path.split("/") if segment]
        return ".." not in segments and segments[: len(wanted)] == wanted


def _split(authority: str) -> tuple[str, str]:
    """Host and port; brackets of an IPv6 address are left off."""
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port
