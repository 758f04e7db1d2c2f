"""The admin API of one engine as typed calls.

Called by the reconcilers, one client per RestateEngine and set of credentials. Invariants: a write is asked once and
never repeated here, since cancel and restart are not idempotent; a query gives all its rows or raises; whatever fails
is one of ``engine.errors``. Rests on the engine's admin API (``GET /openapi``) and on its observed behaviour where
the two differ.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import aiohttp

from invocation_operator.engine import errors
from invocation_operator.engine.models import (
    Answer,
    Connection,
    Deployment,
    EngineCapabilities,
    EngineIdentity,
    Handler,
    Op,
    Service,
    ServiceBrief,
)
from invocation_operator.engine.replies import require_json
from invocation_operator.engine.rounds import Rounds
from invocation_operator.engine.rows import Row, RowDecoder, RowsError, TruncatedRowsError
from invocation_operator.engine.transport import Transport
from invocation_operator.engine.version import Version, parse_version
from invocation_operator.values.ids import is_invocation_id

__all__ = ["Answer", "Connection", "EngineClient", "Op"]

_PIECE = 256 * 1024
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)?")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NO_INVOCATION = "inv_none"


class EngineClient:
    """One engine. Opens connections when first used; ``close`` it."""

    def __init__(
        self,
        connection: Connection,
        *,
        query_timeout: float = 30.0,
        call_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        max_connections: int = 100,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Timeouts in seconds; ``query_timeout`` is for a whole query, ``call_timeout`` for any other request and,
        in queries, for the time between two pieces of the answer once it began. ``may_write`` is asked right before
        anything but a query or a GET is sent; ``Withheld`` when it says no.

        Raises:
            CertificateInvalid: a PEM text cannot be used.
            ValueError: the URL, the token or the server name cannot be used.

        """
        self._query_timeout = query_timeout
        self._call_timeout = call_timeout
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._may_write = may_write
        self._transport = self._to(connection)
        self._identity = Rounds(self._ask_identity)
        self._now = Rounds(self._ask_now)

    def _to(self, connection: Connection) -> Transport:
        return Transport(
            connection,
            connect_timeout=self._connect_timeout,
            call_timeout=self._call_timeout,
            max_connections=self._max_connections,
            may_write=self._may_write,
        )

    def reconnect(self, connection: Connection, *, query_timeout: float) -> Transport:
        """Ask with other credentials from now on. Returns the former connections, on which requests may be under way:
        the caller closes them when these have ended. Raises as the constructor does, and changes nothing then.
        """
        former, self._transport = self._transport, self._to(connection)
        self._query_timeout = query_timeout
        return former

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        await self._transport.close()

    async def version(self) -> Version:
        """``GET /version``. A version text of any form is taken; ``version.supported`` judges it."""
        value = await self._get("version")
        features = value.get("features")
        known = features if isinstance(features, dict) else {}
        version = parse_version(_text(value, "version"))
        return Version(
            text=version.text,
            release=version.release,
            prerelease=version.prerelease,
            min_admin_api=_int_or_none(value.get("min_admin_api_version")),
            max_admin_api=_int_or_none(value.get("max_admin_api_version")),
            features=frozenset(name for name, on in known.items() if on is True),
            known_features=frozenset(known),
        )

    async def cluster_name(self) -> str:
        """``GET /cluster-health``: the name in the cluster's configuration."""
        return _text(await self._get("cluster-health"), "cluster_name")

    async def identity(self) -> EngineIdentity:
        """Which cluster answers: its name and the ids of its deployments; there is no fingerprint to be had.

        Asked once for all who ask at the same time.
        """
        return await self._identity()

    async def _ask_identity(self) -> EngineIdentity:
        name = await self.cluster_name()
        deployments = await self.rows("select id from sys_deployment")
        return EngineIdentity(cluster_name=name, deployments=frozenset(_text(row, "id") for row in deployments))

    async def now(self) -> datetime:
        """The engine's clock, in UTC, to the microsecond. Asked once for all who ask at the same time."""
        return await self._now()

    async def _ask_now(self) -> datetime:
        rows = await self.rows("select now() as now")
        if len(rows) != 1:
            raise errors.BadReply("the engine did not tell the time")
        return parse_time(rows[0].get("now"))

    async def query(self, sql: str, *, timeout: float | None = None) -> AsyncGenerator[Row, None]:  # noqa: ASYNC109
        """Rows as they arrive, null columns left out, in flat memory. Close it (``aclosing``) when leaving early.

        ``timeout`` in seconds for the whole query, time that the caller takes between rows included; default: the
        client's.

        Raises:
            ServerFault: 500 is also what an unknown column or a malformed id in the SQL gives.
            CutOff: the result stopped; rows that came out before are not all there are.

        """
        async with aclosing(self.batches(sql, timeout=timeout)) as batches:
            async for batch in batches:
                for row in batch:
                    yield row

    async def batches(self, sql: str, *, timeout: float | None = None) -> AsyncGenerator[list[Row], None]:  # noqa: ASYNC109
        """As ``query``, in lists as large as a piece of the answer, none empty."""
        total = self._query_timeout if timeout is None else timeout
        exchange = self._transport.exchange(
            "POST",
            self._transport.url("query"),
            body={"query": sql},
            repeatable=True,
            timeouts=self._transport.timeouts(total),
        )
        async with exchange as response:
            require_json(response)
            decoder = RowDecoder()
            try:
                while data := await self._piece(response):
                    for start in range(0, len(data), _PIECE):
                        if rows := decoder.feed(data[start : start + _PIECE]):
                            yield rows
                if rows := decoder.finish():
                    yield rows
            except TruncatedRowsError as error:
                raise errors.CutOff(f"query: {error}") from None
            except RowsError as error:
                raise errors.BadReply(f"query: {error}") from None

    async def rows(self, sql: str, limit: int = 100_000, *, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109
        """All rows of a query that has few. Raises BadReply when there are more than ``limit``."""
        found: list[Row] = []
        async with aclosing(self.batches(sql, timeout=timeout)) as batches:
            async for batch in batches:
                found.extend(batch)
                if len(found) > limit:
                    raise errors.BadReply(f"the query has more than {limit} rows")
        return found

    async def operate(self, op: Op, id: str, *, deployment: str | None = None, from_entry: int | None = None) -> Answer:  # noqa: A002
        """``PATCH /invocations/{id}/{op}``, once.

        ``deployment`` (resume, restart) is ``latest``, ``keep`` or a deployment's id; ``from_entry`` (restart) is the
        last journal entry that is kept.

        Raises:
            EngineError: ``may_have_acted`` tells whether it may have taken effect nevertheless.
            ValueError: a parameter that the operation does not take.

        """
        if not id:
            raise errors.Rejected("an invocation's id is empty", status=400)
        parameters: dict[str, str] = {}
        if deployment is not None:
            if op not in (Op.RESUME, Op.RESTART_AS_NEW):
                raise ValueError(f"{op} takes no deployment")
            parameters["deployment"] = deployment
        if from_entry is not None:
            if op is not Op.RESTART_AS_NEW:
                raise ValueError(f"{op} takes no journal entry")
            parameters["from"] = str(from_entry)
        url = self._transport.url("invocations", id, op.value).with_query(parameters)
        status, value = await self._transport.call("PATCH", url, repeatable=False)
        if op is not Op.RESTART_AS_NEW:
            return Answer(status)
        new_id = _text(value or {}, "new_invocation_id")
        if not is_invocation_id(new_id):
            # It will be looked for together with others, and would fail the query for all of them.
            raise errors.BadReply("the engine answered a restart with something that is no invocation id")
        return Answer(status, new_id=new_id)

    async def post_internal(self, *path: str, body: dict[str, Any]) -> dict[str, Any]:
        """``POST /internal/...``, once: for the engine's own web page (see ``engine.batch``)."""
        _, value = await self._transport.call(
            "POST", self._transport.url("internal", *path), body=body, repeatable=False
        )
        if value is None:
            raise errors.BadReply("the engine's answer is empty")
        return value

    async def services(self) -> list[Service]:
        """``GET /services``: all services at their active revision."""
        return [_service(item) for item in _objects(await self._get("services"), "services")]

    async def deployments_of_services(self) -> dict[str, str]:
        """Every service and the deployment that its new invocations go to: two columns, where ``services`` brings
        whole schemas, which can be larger than what is taken of an answer.
        """
        rows = await self.rows("select name, deployment_id from sys_service")
        return {_text(row, "name"): _text(row, "deployment_id") for row in rows}

    async def service(self, name: str) -> Service:
        """``GET /services/{name}``. Raises NotFound."""
        return _service(await self._get("services", name))

    async def services_in_brief(self) -> list[ServiceBrief]:
        """Every service without its schema: what ``services`` brings can be larger than what is taken of an answer."""
        rows = await self.rows("select name, ty, revision, deployment_id from sys_service")
        return [
            ServiceBrief(_text(row, "name"), _integer(row, "revision"), _text(row, "deployment_id")) for row in rows
        ]

    async def set_service(self, name: str, values: Mapping[str, str]) -> Service:
        """``PATCH /services/{name}`` with ``values``, once; returns the service as it is then.

        The engine passes over fields that it does not know, and answers 200: compare the answer. Raises NotFound, and
        Rejected for a value that it cannot read or that this type of service does not have.
        """
        url = self._transport.url("services", name)
        _, value = await self._transport.call("PATCH", url, body=dict(values), repeatable=False)
        if value is None:
            raise errors.BadReply("the answer to a change of a service is empty")
        return _service(value)

    async def deployments(self) -> list[Deployment]:
        """``GET /deployments``."""
        return [_deployment(item) for item in _objects(await self._get("deployments"), "deployments")]

    async def capabilities(self) -> EngineCapabilities:
        """What the engine offers, by asking it: endpoints by requests that change nothing, columns by the catalogue."""
        version = await self.version()
        catalogue = await self.rows(
            "select column_name from information_schema.columns where table_name = 'sys_invocation'"
        )
        columns = frozenset(_text(row, "column_name") for row in catalogue)
        return EngineCapabilities(
            pause=await self._has_pause(),
            batch=await self._has_batch(),
            scopes="scope" in columns,
            restarted_from="restarted_from" in columns,
            automatic_idempotency_keys=await self._has_automatic_keys(version),
            columns=columns,
        )

    async def _has_pause(self) -> bool:
        """An id that cannot be one is refused with a message where the endpoint exists, and without where not."""
        try:
            await self.operate(Op.PAUSE, _NO_INVOCATION)
        except errors.Rejected:
            return True
        except errors.BadReply:
            return False
        return False

    async def _has_batch(self) -> bool:
        url = self._transport.url("internal", "invocations_batch_operations", Op.CANCEL.value)
        try:
            _, value = await self._transport.call("POST", url, body={"invocation_ids": []}, repeatable=True)
        except (errors.Rejected, errors.BadReply):
            return False
        except errors.Unauthorized as error:
            # A front may keep what is internal from everybody. What is public has been answered before this.
            if error.status != 403:
                raise
            return False
        return value is not None and value.get("succeeded") == [] and value.get("failed") == []

    async def _has_automatic_keys(self, version: Version) -> bool:
        """Fixed when a cluster is provisioned and shown nowhere, so some calls tell: a ULID of the very moment of the
        call was not chosen by a person, a call without a key was not given one. Without either, 1.7 and newer are
        taken to do it.
        """
        rows = await self.rows(
            "select idempotency_key, created_at from sys_invocation where invoked_by = 'ingress'"
            " and target_service_ty <> 'workflow' limit 200"
        )
        if any(_made_by_engine(row.get("idempotency_key"), row.get("created_at")) for row in rows):
            return True
        if any(row.get("idempotency_key") is None for row in rows):
            return False
        return version.release is not None and version.release >= (1, 7, 0)

    async def _piece(self, response: aiohttp.ClientResponse) -> bytes:
        """What has arrived; empty at the end. The first piece may take as long as the query, the next ones not: the
        engine sends the status with the first rows.
        """
        async with asyncio.timeout(self._call_timeout):
            return await response.content.readany()

    async def _get(self, *segments: str) -> dict[str, Any]:
        _, value = await self._transport.call("GET", self._transport.url(*segments), repeatable=True)
        if value is None:
            raise errors.BadReply(f"the answer to /{segments[0]} is empty")
        return value


def parse_time(value: object) -> datetime:
    """A timestamp of the engine, which is text in UTC with up to nine decimals. Raises BadReply."""
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise errors.BadReply("the engine gave a time that cannot be read")
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:
        raise errors.BadReply("the engine gave a time that cannot be read") from None


def _made_by_engine(key: object, created_at: object) -> bool:
    if not isinstance(key, str) or _ULID.fullmatch(key) is None:
        return False
    milliseconds = 0
    for character in key[:10]:
        milliseconds = milliseconds * 32 + _CROCKFORD.index(character)
    return abs(milliseconds / 1000 - parse_time(created_at).timestamp()) < 1.0


def _service(raw: dict[str, Any]) -> Service:
    handlers = tuple(
        Handler(name=_text(item, "name"), ty=_text_or_none(item.get("ty")), raw=item)
        for item in _objects(raw, "handlers")
    )
    return Service(
        name=_text(raw, "name"),
        ty=_text(raw, "ty"),
        deployment_id=_text(raw, "deployment_id"),
        revision=_integer(raw, "revision"),
        handlers=handlers,
        idempotency_retention=_text_or_none(raw.get("idempotency_retention")),
        journal_retention=_text_or_none(raw.get("journal_retention")),
        workflow_completion_retention=_text_or_none(raw.get("workflow_completion_retention")),
        raw=raw,
    )


def _deployment(raw: dict[str, Any]) -> Deployment:
    return Deployment(
        id=_text(raw, "id"),
        uri=_text_or_none(raw.get("uri")),
        created_at=parse_time(raw.get("created_at")),
        services=tuple((_text(item, "name"), _integer(item, "revision")) for item in _objects(raw, "services")),
        raw=raw,
    )


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise errors.BadReply(f"the answer has no {name}")
    return text


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _integer(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise errors.BadReply(f"the answer has no {name}")
    return number


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = value.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise errors.BadReply(f"the answer has no {name}")
    return items
