"""Matching of service names: exact, or a prefix when the pattern ends in ``*``. Case counts."""

from collections.abc import Iterable


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is selected by ``pattern``."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def selected(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the ``names`` that any of ``patterns`` selects, sorted."""
    listed = tuple(patterns)
    return sorted(name for name in set(names) if any(matches(p, name) for p in listed))
