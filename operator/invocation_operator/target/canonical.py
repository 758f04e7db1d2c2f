"""The canonical form of a target: two spellings of one target are one text, and hash alike.

Called by ``plan.identity``, whose hash is the lock behind *once*: what exists must keep its form for ever, so a change
here is a new ``HASH_VERSION`` there. Defaults are dropped, durations and times brought to one spelling, sets sorted.
Nothing is computed from the meaning (``olderThan: 0s`` stays): only spellings are joined.
"""

import json
from datetime import datetime
from typing import Any

from invocation_operator.api.v1alpha1.target import Leaf, Target
from invocation_operator.values.duration import format_duration, parse_duration
from invocation_operator.values.times import format_time

_DURATIONS = frozenset({"older_than", "unmodified_for", "completed_for"})


def canonical(target: Target) -> dict[str, Any]:
    """Return ``target`` as plain JSON values under the names of the API. Raises ``DurationError``."""
    return _form(target)


def _form(leaf: Leaf) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for name, field in type(leaf).model_fields.items():
        value = getattr(leaf, name)
        # Every boolean of the language is false by default.
        if value is not None and value is not False:
            form[field.alias or name] = _value(name, value)
    return form


def _value(name: str, value: Any) -> Any:
    if name in _DURATIONS:
        return format_duration(parse_duration(value))
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Leaf):
        return _form(value)
    if isinstance(value, list):
        entries = [_form(entry) if isinstance(entry, Leaf) else getattr(entry, "value", entry) for entry in value]
        return [json.loads(text) for text in sorted({_text(entry) for entry in entries})]
    return value


def _text(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
