"""Who asked for a run and who approved its plan, where admission policies vouch for it.

The chart's policies write both into annotations, from the request itself, and let nobody else write them
(charts/restate-invocation-operator/templates/admission-policies.yaml). Without the policies anybody could have written
anything there: then nobody is named. Read by the reconcilers, for status and for the InvocationRecord.
"""

from dataclasses import dataclass

from invocation_operator.cluster.client import Object

REQUESTED_BY = "ops.restate.dev/requested-by"
APPROVED_BY = "ops.restate.dev/approved-by"

SHOWN = 256
"""Characters of a name that status and records hold."""


@dataclass(frozen=True, slots=True)
class Authors:
    """The users behind objects."""

    vouched: bool = False
    """Whether admission policies vouch for the annotations."""

    def requester(self, obj: Object) -> str | None:
        """Return who asked for what ``obj`` specifies now; None when nobody vouches for it."""
        return self._named(obj, REQUESTED_BY)

    def approver(self, obj: Object) -> str | None:
        """Return who set the ``spec.approvedPlan`` that ``obj`` has now; None when nobody vouches for it."""
        return self._named(obj, APPROVED_BY)

    def _named(self, obj: Object, annotation: str) -> str | None:
        if not self.vouched:
            return None
        name = (obj["metadata"].get("annotations") or {}).get(annotation)
        return str(name)[:SHOWN] if name else None
