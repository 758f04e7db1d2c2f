"""Making the plan: one streamed query resolves the set, a few small ones tell what a person should know about it.

Nothing is touched here. The set is bounded while it streams: one invocation more than the limit ends the query.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from invocation_operator.api.v1alpha1.action import ActionSpec, Cascade
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.rows import Row
from invocation_operator.plan import identity
from invocation_operator.plan import refusal as r
from invocation_operator.plan.build import Plan, PlanBuilder, counts, every_leaf
from invocation_operator.plan.guardrails import Reach, check_plan, check_share
from invocation_operator.plan.holds import CLEARS
from invocation_operator.plan.operation.base import NEVER_STARTED
from invocation_operator.plan.operations import (
    CAN_BE_WATCHED,
    POSSIBLE,
    REACHES_DESCENDANTS,
    caused_operations,
    countable_statuses,
    planned_columns,
    with_statuses,
)
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.targets import PlannedSet
from invocation_operator.reconcile.cascade import Descendants, descendants
from invocation_operator.reconcile.station import Resolved, Station
from invocation_operator.target.freeze import FrozenTarget, freeze
from invocation_operator.target.narrow import problems
from invocation_operator.target.predicate import matcher
from invocation_operator.target.row import InvocationRow, MalformedRow, row_from_json
from invocation_operator.target.sql import (
    Also,
    UnsupportedFilter,
    count_by_service,
    count_by_status,
    count_held,
    select,
)
from invocation_operator.target.vocabulary import STATUS
from invocation_operator.values.ids import is_invocation_id

SERVICES_SHOWN = 20
SPECIFICATION_LIMIT = 262_144
"""Characters of a canonical specification that a record takes."""
READ_AT_ONCE = 500
"""Rows that are planned without giving way to anything else."""
HASHED_AT_ONCE = 20_000
"""Planned invocations that are hashed without giving way to anything else."""


@dataclass(frozen=True, slots=True)
class Planning:
    """A plan that may be carried out, and what was asked for it."""

    plan: Plan
    statement: str
    reach: Reach
    """What guardrails count of it."""


def check_target(spec: ActionSpec) -> Refusal | None:
    """Refuse a target that the language does not allow or that the action can never apply to.

    The CRD's own rules say the same at admission; an object may have come in under older ones.
    """
    length = len(identity.canonical_json(identity.canonical_spec(spec)))
    if length > SPECIFICATION_LIMIT:
        message = (
            f"the specification has {length} characters in its canonical form, and its record takes "
            f"{SPECIFICATION_LIMIT}; divide it into several actions."
        )
        return Refusal(r.INVALID_SPEC, message)
    found = problems(spec.target, with_statuses(spec.target, spec.action)[1])
    if found:
        return Refusal(r.INVALID_SPEC, "; ".join(problem.message for problem in found[:5]))
    if spec.rollout is not None and spec.action not in CAN_BE_WATCHED:
        return Refusal(r.INVALID_SPEC, f"rollout is for Resume and RestartAsNew; {spec.action.value} knows no waves.")
    leaves = [spec.target, *(spec.target.any_of or ())]
    impossible = sorted({s.value for leaf in leaves for s in leaf.statuses or () if s not in POSSIBLE[spec.action]})
    if impossible:
        possible = ", ".join(sorted(s.value for s in POSSIBLE[spec.action]))
        message = f"{spec.action.value} cannot apply to {', '.join(impossible)}; possible statuses: {possible}."
        return Refusal(r.INVALID_SPEC, message)
    return None


async def make_plan(
    spec: ActionSpec,
    resolved: Resolved,
    now: datetime,
    *,
    only: PlannedSet | None = None,
    keep_last: int | None = None,
    also: Also | None = None,
) -> Planning | Refusal:
    """Return the plan of ``spec`` on the engine, frozen at ``now`` (the engine's clock), or why it is refused.

    ``only`` restricts it to identities that a preview showed: those of them that still match, and no others. Raises
    the engine client's errors.
    """
    scopes = resolved.probe.capabilities.scopes
    target, statuses = with_statuses(spec.target, spec.action)
    frozen = freeze(target, now, statuses)
    client, ask = resolved.station.client, resolved.station.ask
    held = resolved.station.holds.frozen(now) if spec.action in CLEARS else []
    try:
        columns = planned_columns(spec)
        statement = select(frozen, columns, scopes_supported=scopes, keep_last=keep_last, held=held, also=also)
        excluded, services, (builder, cut) = await asyncio.gather(
            ask(lambda: _excluded(client, frozen, scopes=scopes)),
            _services(client, spec),
            ask(
                lambda: _collect(
                    resolved.station,
                    frozen,
                    PlanBuilder(spec, redact_keys=resolved.spec.redact_keys),
                    spec.limits.max_targets,
                    only,
                    scopes=scopes,
                    keep_last=keep_last,
                    held=held,
                    also=also,
                )
            ),
        )
        told = await ask(lambda: _held(client, frozen, resolved, now, scopes=scopes)) if held else []
    except UnsupportedFilter as error:
        return Refusal(r.UNSUPPORTED_FILTER, str(error))
    if cut or len(builder.targets) > spec.limits.max_targets:
        return await ask(lambda: _too_many(client, frozen, spec, scopes=scopes))
    cascade, descending = await ask(lambda: _cascade(client, spec, builder))
    plan = builder.finish(time=now, excluded_by_status=excluded, cascade=cascade, services=services)
    plan = replace(plan, warnings=[*told, *plan.warnings])
    reach, refused = await _check(client, spec, resolved, plan, descending.by_service)
    if refused is None and descending.truncated:
        reach, refused = await _check(client, spec, resolved, plan, descending.at_most)
        if refused is not None:
            refused = _uncounted(refused, descending)
    if refused is not None:
        return refused
    digest = await hash_of(resolved.identity, spec, plan.targets)
    return Planning(replace(plan, hash=digest), statement, reach)


async def _check(
    client: EngineClient, spec: ActionSpec, resolved: Resolved, plan: Plan, descending: Counter[str]
) -> tuple[Reach, Refusal | None]:
    """Return what the plan reaches with these descendants, and why it may not."""
    reach = Reach(plan.total + descending.total(), frozenset(plan.by_service) | frozenset(descending))
    refused = check_plan(
        reach, spec.limits.max_targets, resolved.guardrails, resolved.namespace_labels, caused_operations(spec)
    )
    ask = resolved.station.ask
    return reach, refused or await ask(lambda: _share(client, spec, plan, descending))


def _uncounted(refused: Refusal, descending: Descendants) -> Refusal:
    """Where counting was cut short, every call that lives on the engine may be a descendant: then nothing is risked."""
    return Refusal(
        r.TOO_MANY_DESCENDANTS,
        f"there are more descendants than the {descending.by_service.total()} that were counted. If all "
        f"{descending.at_most.total()} calls that live on the engine were among them: {refused.message}",
    )


async def _share(client: EngineClient, spec: ActionSpec, plan: Plan, descending: Counter[str]) -> Refusal | None:
    """Refuse more of a service than ``limits.maxPercentOfService``; one query, and none without that limit."""
    most = spec.limits.max_percent_of_service
    if most is None or not plan.reach:
        return None
    reached = Counter(plan.by_service) + descending
    rows = await client.rows(count_by_service(reached, countable_statuses(spec)))
    with errors.reading("counts"):
        existing = {str(row["service"]): int(row["count"]) for row in rows}
    return check_share(reached, existing, most)


async def hash_of(engine: EngineIdentity, spec: ActionSpec, targets: PlannedSet) -> str:
    """Return the hash of a plan: of this run of ``spec`` on ``engine``, and of exactly this set."""
    place, form = identity.plan_place(engine, spec.run_id), identity.canonical_spec(spec)
    if len(targets) <= HASHED_AT_ONCE:
        return identity.plan_hash_of_sorted(place, form, targets.identities())
    # A million take a second, in which runs must be renewed.
    return await asyncio.to_thread(identity.plan_hash_of_sorted, place, form, targets.identities())


async def _collect(
    station: Station,
    frozen: FrozenTarget,
    builder: PlanBuilder,
    most: int,
    only: PlannedSet | None,
    *,
    scopes: bool,
    keep_last: int | None,
    held: Sequence[FrozenTarget],
    also: Also | None,
) -> tuple[PlanBuilder, bool]:
    """Plan what matches; True with it when there are more rows than may be planned."""
    if frozen.ids:
        await _collect_named(station, frozen, builder, only, scopes=scopes, held=held)
        return builder, False
    # What was previewed must not be pushed out of the target's limit by what came later.
    bounded = replace(frozen, limit=None) if only is not None else frozen
    limit = None if only is not None else most + 1
    # The engine reads its partitions one after the other: what changes meanwhile may come twice.
    total, last, before = 0, "", set[str]()
    columns = planned_columns(builder.spec)
    statement = select(
        bounded, columns, scopes_supported=scopes, limit=limit, keep_last=keep_last, held=held, also=also
    )
    async with aclosing(station.client.query(statement)) as rows:
        async for found in rows:
            total += 1
            if total % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            row = _read(found)
            if row.id == last or row.id in before:
                continue
            last = row.id
            if bounded.oldest_first:
                before.add(last)
            if only is None or only.holds(row.id, row.created_at):
                builder.add(row)
    return builder, limit is not None and total >= limit


def _read(found: Row) -> InvocationRow:
    try:
        return row_from_json(found)
    except MalformedRow as error:
        raise errors.BadReply(str(error)) from error


async def _collect_named(
    station: Station,
    frozen: FrozenTarget,
    builder: PlanBuilder,
    only: PlannedSet | None,
    *,
    scopes: bool,
    held: Sequence[FrozenTarget],
) -> None:
    """Named ids answer one by one: malformed and unknown ones fail alone, those that do not apply are skipped."""
    ids = frozen.ids or ()
    columns = planned_columns(builder.spec)
    existing, fitting, among = await _look_up(station, frozen, columns, scopes=scopes, held=held)
    # As in ``_collect``: what was previewed must not be pushed out of the limit by what fits since.
    chosen = {row.id: row for row in (fitting if only is not None else fitting[: frozen.limit])}
    fit = {row.id for row in fitting}
    for id_ in ids:
        row = existing.get(id_)
        if not is_invocation_id(id_):
            builder.invalid(id_)
        elif id_ in chosen:
            continue
        elif id_ not in existing:
            builder.unknown(id_)
        elif row is None:
            builder.unreadable(id_)
        else:
            builder.unfit(row, "Held" if id_ in among else _misfit(row, frozen, fit))
    for row in chosen.values():
        now = existing.get(row.id)
        if now is not None and now.created_at > row.created_at:
            # Between the two answers: what lives now is not what matched.
            builder.unfit(now, "BornAgain")
        elif only is None or only.holds(row.id, row.created_at):
            builder.add(row)
        else:
            builder.unfit(row, "NotInPreview")


async def _look_up(
    station: Station, frozen: FrozenTarget, columns: Sequence[str], *, scopes: bool, held: Sequence[FrozenTarget]
) -> tuple[dict[str, InvocationRow | None], list[InvocationRow], set[str]]:
    """Return the rows of the named ids that there are (None for what cannot be read), in order those that fit, and the
    ids of those that would but for being held.
    """
    valid = [id_ for id_ in frozen.ids or () if is_invocation_id(id_)]
    if not valid:
        return {}, [], set()
    client, unlimited = station.client, replace(frozen, limit=None)
    asking = station.named.rows(valid, columns, scopes_supported=scopes)
    if frozen.names_alone and not held:
        # Their rows tell everything that is asked of them.
        existing = dict(map(_named, await asking))
        fits = matcher(frozen)
        found = [row for row in existing.values() if row is not None and fits(row)]
        return existing, sorted(found, key=_by_birth if frozen.oldest_first else _by_id), set()
    every, matching = await asyncio.gather(
        asking, client.rows(select(unlimited, columns, scopes_supported=scopes, held=held))
    )
    among: set[str] = set()
    if held:
        whole = await client.rows(select(unlimited, columns, scopes_supported=scopes))
        among = {str(row["id"]) for row in whole} - {str(row["id"]) for row in matching}
    return dict(map(_named, every)), list({row.id: row for row in map(_read, matching)}.values()), among


async def _held(
    client: EngineClient, frozen: FrozenTarget, resolved: Resolved, now: datetime, *, scopes: bool
) -> list[str]:
    """What a person should know: how many of what matches each hold keeps."""
    told = []
    for held in resolved.station.holds:
        rows = await client.rows(count_held(replace(frozen, limit=None), held.frozen(now), scopes_supported=scopes))
        with errors.reading("counts"):
            number = int(rows[0]["count"])
        if number:
            told.append(f"{number} that match are held by RetentionPolicy {held.label} and left alone.")
    return told


def _named(found: Row) -> tuple[str, InvocationRow | None]:
    """One that cannot be read (in a status of a newer engine) must not keep the others."""
    try:
        row = row_from_json(found)
    except MalformedRow as error:
        if not isinstance(found.get("id"), str):
            raise errors.BadReply(str(error)) from error
        return found["id"], None
    return row.id, row


def _by_id(row: InvocationRow) -> str:
    return row.id


def _by_birth(row: InvocationRow) -> tuple[datetime, str]:
    return row.created_at, row.id


def _misfit(row: InvocationRow, frozen: FrozenTarget, fitting: set[str]) -> str:
    if row.status not in frozen.statuses:
        return row.status.value
    return "BeyondLimit" if row.id in fitting else "FilterMismatch"


async def _excluded(client: EngineClient, frozen: FrozenTarget, *, scopes: bool) -> Mapping[str, int]:
    """What the default statuses leave out; nothing when the statuses were given or the ids named."""
    if not frozen.statuses_were_defaulted or frozen.ids:
        return {}
    found = await _by_status(client, frozen, scopes=scopes)
    return {status: total for status, total in found.items() if status not in frozen.statuses}


async def _by_status(client: EngineClient, frozen: FrozenTarget, *, scopes: bool) -> dict[str, int]:
    """Counts by status; one that only a newer engine knows keeps the engine's word."""
    rows = await client.rows(count_by_status(frozen, scopes_supported=scopes))
    with errors.reading("counts"):
        return {STATUS.get(row["status"], str(row["status"])): int(row["count"]) for row in rows}


async def _services(client: EngineClient, spec: ActionSpec) -> Mapping[str, list[str] | None] | None:
    """Services and their handlers, when the target names any, for hints on names that the engine does not have.

    None for what cannot be had: of many services their schemas may be more than is taken of an answer.
    """
    leaves = every_leaf(spec.target)
    with suppress(errors.EngineError):
        if any(leaf.handlers for leaf in leaves):
            return {service.name: [handler.name for handler in service.handlers] for service in await client.services()}
    with suppress(errors.EngineError):
        if any(leaf.services for leaf in leaves):
            return dict.fromkeys(await client.deployments_of_services())
    return None


async def _too_many(client: EngineClient, frozen: FrozenTarget, spec: ActionSpec, *, scopes: bool) -> Refusal:
    found = await _by_status(client, frozen, scopes=scopes)
    total = sum(number for status, number in found.items() if status in frozen.statuses)
    return Refusal(
        r.TOO_MANY_TARGETS,
        f"{total} invocations match, more than spec.limits.maxTargets ({spec.limits.max_targets}); nothing was "
        "touched. Narrow the target, or raise the limit.",
    )


async def _cascade(client: EngineClient, spec: ActionSpec, builder: PlanBuilder) -> tuple[Cascade | None, Descendants]:
    if spec.action not in REACHES_DESCENDANTS or not builder.targets:
        return None, Descendants()
    if builder.by_status.keys() <= NEVER_STARTED:
        # What has not begun has called nobody.
        return Cascade(), Descendants()
    # An escalation kills, and a kill takes one-way calls with it.
    awaited_only = Operation.KILL not in caused_operations(spec)
    reach = await descendants(client, builder.targets, awaited_only=awaited_only)
    cascade = Cascade(
        total=sum(reach.by_service.values()),
        by_service=counts(reach.by_service, SERVICES_SHOWN) or None,
        truncated=reach.truncated,
    )
    return cascade, reach
