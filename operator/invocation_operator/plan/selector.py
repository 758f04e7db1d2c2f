"""Kubernetes label selectors, as the API server evaluates them."""

from collections.abc import Mapping

from invocation_operator.api.v1alpha1.engine import LabelSelector, SelectorOperator, SelectorRequirement


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether an object with ``labels`` is selected; an empty selector selects everything."""
    wanted = selector.match_labels or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(requirement, labels) for requirement in selector.match_expressions or ())


def _holds(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    values = requirement.values or []
    match requirement.operator:
        case SelectorOperator.IN:
            return labels.get(requirement.key) in values
        case SelectorOperator.NOT_IN:
            # A label that is not there is "not in" any list, as in Kubernetes.
            return labels.get(requirement.key) not in values
        case SelectorOperator.EXISTS:
            return requirement.key in labels
        case SelectorOperator.DOES_NOT_EXIST:
            return requirement.key not in labels
