"""What the engine makes of retentions that a person may not expect: its caps, and whom they hold for.

Pure: called when a RetentionPolicy has looked at its services.
"""

from collections.abc import Iterable, Sequence

from invocation_operator.plan.retention import WORKFLOW, Observed, Setting, Values
from invocation_operator.values.duration import format_duration


def warnings(wanted: Values, services: Iterable[Observed], *, automatic_keys: bool) -> list[str]:
    """Return what the engine makes of the values that a person may not expect: its caps, and who they hold for."""
    capped: dict[str, list[str]] = {}
    alone: list[str] = []
    for service in services:
        journal = service.values.get(Setting.JOURNAL)
        completion = Setting.WORKFLOW_COMPLETION if service.type == WORKFLOW else Setting.IDEMPOTENCY
        kept = service.values.get(completion)
        if Setting.JOURNAL not in wanted or journal is None or kept is None:
            continue
        if journal > kept:
            words = f"journal ({format_duration(journal)}) is longer than {completion.field_name}"
            capped.setdefault(f"{words} ({format_duration(kept)})", []).append(service.name)
        if automatic_keys and completion is Setting.IDEMPOTENCY and Setting.IDEMPOTENCY not in wanted:
            alone.append(service.name)
    told = [
        f"{words} on {_some(names)}: the engine keeps no journal longer than its completion, so the shorter one holds"
        f"{_whose(words, automatic_keys=automatic_keys)}."
        for words, names in capped.items()
    ]
    if alone:
        told.append(
            f"this engine gives every ingress call an idempotency key, so on {_some(alone)} idempotency governs how "
            "long the completion of ingress calls stays, and the policy does not set it."
        )
    return told


def _whose(words: str, *, automatic_keys: bool) -> str:
    if "workflowCompletion" in words:
        return ""
    return " (for all ingress calls: this engine gives each a key)" if automatic_keys else " (for calls with a key)"


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
