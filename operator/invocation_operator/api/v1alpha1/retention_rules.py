"""What a RetentionPolicy may not say, as CEL. Read by ``retention``."""

from invocation_operator.api.v1alpha1.base import Rule
from invocation_operator.api.v1alpha1.cel import any_given, shorter

RETENTION_RULES = (
    Rule(
        any_given("self", ("idempotency", "workflowCompletion", "journal")),
        message="give at least one of idempotency, workflowCompletion and journal, or leave retention out",
    ),
)

TIMEOUT_RULES = (
    Rule(
        any_given("self", ("inactivityTimeout", "abortTimeout")),
        message="give at least one of inactivityTimeout and abortTimeout, or leave timeouts out",
    ),
)

_NOT_BELOW = shorter("'1s'", "self.interval", or_equal=True)
_NOT_ABOVE = shorter("self.interval", "'1d'", or_equal=True)

SPEC_RULES = (
    Rule(
        any_given("self", ("retention", "timeouts")),
        message="the policy says nothing: give retention, timeouts, or both",
    ),
    Rule(
        f"!has(self.interval) || (({_NOT_BELOW}) && ({_NOT_ABOVE}))",
        message="interval must be between 1s and 1d",
        field_path=".interval",
    ),
)
