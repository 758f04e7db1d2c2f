"""Versions of the engine: reading them, and which are supported.

Pure; called by ``engine.client`` and by the RestateEngine's reconciler. The range is the one whose behaviour was
observed case by case (1.6.1 to 1.7.12); a newer minor keeps the same admin API until shown otherwise.
"""

import re
from dataclasses import dataclass
from enum import Enum

from invocation_operator.engine.errors import VersionUnsupported

OLDEST = (1, 6, 1)
"""Oldest supported engine. 1.5 has no pause and no batch endpoints."""
NEWEST_MINOR = (1, 7)
"""Newest minor that was tried."""

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:-([0-9A-Za-z.-]{1,64}))?(?:\+[0-9A-Za-z.-]{1,64})?")


class Support(Enum):
    """Whether an engine can be used."""

    SUPPORTED = "supported"
    UNTESTED = "untested"
    """Newer than what was tried: usable, with a warning."""
    UNSUPPORTED = "unsupported"
    """Older, another major, or not readable: nothing is executed."""


@dataclass(frozen=True, slots=True)
class Version:
    """What ``GET /version`` says."""

    text: str
    """As the engine writes it."""
    release: tuple[int, int, int] | None
    """Major, minor, patch; None when ``text`` is not a version."""
    prerelease: str | None = None
    """``rc.1`` of ``1.8.0-rc.1``."""
    min_admin_api: int | None = None
    max_admin_api: int | None = None
    features: frozenset[str] = frozenset()
    """Features that are switched on."""
    known_features: frozenset[str] = frozenset()
    """All features that the engine lists, on or off; empty before 1.7."""

    def __str__(self) -> str:
        return self.text


def parse_version(text: str) -> Version:
    """Read ``1.7.12``, ``1.8.0-rc.1``, ``1.8.0-dev+abc``, ``v1.7``. Anything else has ``release`` None."""
    text = text.strip()[:128]
    match = _VERSION.fullmatch(text)
    if match is None:
        return Version(text=text, release=None)
    major, minor, patch, prerelease = match.groups()
    return Version(text=text, release=(int(major), int(minor), int(patch or 0)), prerelease=prerelease)


def supported(version: Version) -> Support:
    """Whether an engine of this version can be used. A prerelease counts as the release before which it came out,
    except that one of the oldest supported release does not reach it.
    """
    release = version.release
    if release is None or release[0] != OLDEST[0]:
        return Support.UNSUPPORTED
    if release < OLDEST or (release == OLDEST and version.prerelease is not None):
        return Support.UNSUPPORTED
    if release[:2] > NEWEST_MINOR:
        return Support.UNTESTED
    return Support.SUPPORTED


def require_supported(version: Version) -> Support:
    """``SUPPORTED`` or ``UNTESTED``. Raises VersionUnsupported, which says what would do."""
    support = supported(version)
    if support is Support.UNSUPPORTED:
        oldest = ".".join(str(part) for part in OLDEST)
        shown = version.text if version.release is not None else "that cannot be read"
        raise VersionUnsupported(f"the engine has version {shown}; {oldest} or a newer 1.x is needed: upgrade it")
    return support
