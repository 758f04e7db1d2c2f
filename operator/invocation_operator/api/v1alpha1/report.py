"""The full outcome of a run, one line for each invocation, kept beside its action."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.base import ListType, Model, Name, ShortText, Text


class Report(StrEnum):
    """Where the full outcome is kept."""

    CONFIG_MAP = "ConfigMap"


class ReportStatus(Model):
    """Where the full outcome is, invocation by invocation."""

    format: ShortText
    """`jsonl.gz`: each ConfigMap holds, under the key `report`, gzipped lines of JSON, one for each invocation: `id`,
    `target`, `outcome`, and where there are any `reason`, `newId` and `error`."""
    config_maps: Annotated[list[Name] | None, Field(max_length=300), ListType("atomic")] = None
    """Names of the ConfigMaps in this namespace, in order; they are deleted with this object."""
    omitted: Annotated[int, Field(ge=0)] = 0
    """How many more there are than are named here; their numbers go on."""
    lines: Annotated[int, Field(ge=0)] = 0
    """Invocations that are in them."""
    problem: Text | None = None
    """Why the report is not complete."""


class RecordReport(Model):
    """What is known of a report, so that whoever takes the run over goes on with it."""

    pages: Annotated[int, Field(ge=0)] = 0
    """ConfigMaps that are written."""
    lines: Annotated[int, Field(ge=0)] = 0
    """Lines in them."""
    pending: Annotated[str, StringConstraints(max_length=1_000_000)] | None = None
    """Outcomes that are in none of them yet, compressed."""
    problem: Text | None = None
    """Why it was given up."""
