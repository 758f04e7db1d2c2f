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

_NUMBER = r"([0-9]{1,5}|[A-Za-z]{3})"
_TERM = rf"([*?]|{_NUMBER}(-{_NUMBER})?)(/[0-9]{{1,5}})?"
_FIELD = rf"{_TERM}(,{_TERM})*"
_SCHEDULE = rf"^\s*(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|{_FIELD}(\s+{_FIELD}){{4}})\s*$"

SCHEDULE_RULE = Rule(
    f"self.matches(r'(?i){_SCHEDULE}')",
    message="not a schedule: write minute, hour, day of the month, month and day of the week, such as '0 3 * * *', or "
    "@daily; no seconds, no TZ= (use timeZone), no L, W or #",
)
"""The shape; numbers out of range and days that never come are for the operator to tell, in status."""

SWEEP_TARGET_RULES = (
    Rule(
        "(!has(self.statuses) || self.statuses.all(status, status == 'Completed')) && (!has(self.anyOf) || "
        "self.anyOf.all(branch, !has(branch.statuses) || branch.statuses.all(status, status == 'Completed')))",
        message="a sweep purges what is Completed: leave statuses out",
    ),
)

SPEC_RULES = (
    Rule(
        "!has(self.applyToExisting) || !self.applyToExisting || (has(self.retention) && "
        "(!has(self.drift) || self.drift == 'Enforce'))",
        message="applyToExisting needs retention, and drift: Enforce",
        field_path=".applyToExisting",
    ),
    Rule(
        "!has(self.sweeps) || self.sweeps.all(sweep, !sweep.name.startsWith('existing-'))",
        message="names of sweeps that begin with existing- are those of applyToExisting",
        field_path=".sweeps",
    ),
    Rule(
        any_given("self", ("retention", "timeouts", "sweeps", "holds")),
        message="the policy says nothing: give retention, timeouts, sweeps or holds",
    ),
    Rule(
        f"!has(self.interval) || (({_NOT_BELOW}) && ({_NOT_ABOVE}))",
        message="interval must be between 1s and 1d",
        field_path=".interval",
    ),
)
