"""What is asked and what the answers become, where a real engine cannot be brought to answer so."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from invocation_operator.engine import errors
from invocation_operator.engine.client import Op, parse_time
from invocation_operator.engine.models import EngineIdentity
from tests.unit.engine.fake_admin import Asked, Script, Wire, fake_admin

ID = "inv_1b90ZiUqt0Gh1dqvmTTS5MC8kRzJVgEQr2"
NEW = "inv_12KkMHfDwhH20000000000000000000001"
SERVICE = {"name": "a.b/C", "ty": "Service", "deployment_id": "dp_1", "revision": 3, "handlers": [{"name": "h"}]}


def answering(**answers: Any) -> Script:
    """JSON by the last segment of the path; 404 without words for the others, as the engine does it."""

    async def script(asked: Asked, wire: Wire) -> None:
        name = asked.path.partition("?")[0].rpartition("/")[2].replace("-", "_")
        if name in answers:
            await wire.json(200, answers[name])
        else:
            await wire.reply(404, kind="")

    return script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T15:21:53.533024447", datetime(2026, 11, 23, 15, 21, 53, 533024, UTC)),
        ("2026-11-23T15:21:53.427Z", datetime(2026, 11, 23, 15, 21, 53, 427000, UTC)),
        ("2026-11-23T15:21:53", datetime(2026, 11, 23, 15, 21, 53, 0, UTC)),
        ("2026-11-23 15:21:53.1+00:00", datetime(2026, 11, 23, 15, 21, 53, 100000, UTC)),
    ],
)
def test_client_times_are_utc(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "value", [None, 5, "", "now", "2026-11-23", "2026-11-23T15:21:53+02:00", "2026-13-23T15:21:53Z"]
)
def test_client_times_that_cannot_be_read_are_bad_replies(value: object) -> None:
    with pytest.raises(errors.BadReply):
        parse_time(value)


@pytest.mark.parametrize(
    ("op", "options", "path"),
    [
        (Op.CANCEL, {}, "cancel"),
        (Op.KILL, {}, "kill"),
        (Op.PAUSE, {}, "pause"),
        (Op.PURGE, {}, "purge"),
        (Op.PURGE_JOURNAL, {}, "purge-journal"),
        (Op.RESUME, {}, "resume"),
        (Op.RESUME, {"deployment": "latest"}, "resume?deployment=latest"),
        (Op.RESUME, {"deployment": "a&b=c"}, "resume?deployment=a%26b%3Dc"),
        (Op.RESTART_AS_NEW, {"deployment": "keep", "from_entry": 0}, "restart-as-new?deployment=keep&from=0"),
    ],
)
async def test_client_operation_is_one_patch(op: Op, options: dict[str, Any], path: str) -> None:
    script = answering(**{op.replace("-", "_"): {"new_invocation_id": NEW}})
    async with fake_admin(script) as admin, admin.client() as client:
        answer = await client.operate(op, ID, **options)
    assert [(asked.method, asked.path, asked.body) for asked in admin.asked] == [
        ("PATCH", f"/invocations/{ID}/{path}", b"")
    ]
    assert answer.status == 200
    assert not answer.accepted
    assert answer.new_id == (NEW if op is Op.RESTART_AS_NEW else None)


async def test_client_restart_answered_with_no_invocation_id_is_a_bad_reply_that_may_have_acted() -> None:
    """It would be looked for together with others, and fail the query for all of them, for ever."""
    async with (
        fake_admin(answering(restart_as_new={"new_invocation_id": "inv_broken"})) as admin,
        admin.client() as client,
    ):
        with pytest.raises(errors.BadReply) as caught:
            await client.operate(Op.RESTART_AS_NEW, ID)
    assert caught.value.may_have_acted


async def test_client_accepted_is_told_from_done() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.reply(202, kind="")

    async with fake_admin(script) as admin, admin.client() as client:
        assert (await client.operate(Op.CANCEL, ID)).accepted


@pytest.mark.parametrize(
    ("op", "options"),
    [(Op.CANCEL, {"deployment": "keep"}), (Op.RESUME, {"from_entry": 1}), (Op.PURGE, {"from_entry": 1})],
)
async def test_client_parameter_that_the_operation_does_not_take_is_refused(op: Op, options: dict[str, Any]) -> None:
    async with fake_admin(answering()) as admin, admin.client() as client:
        with pytest.raises(ValueError):
            await client.operate(op, ID, **options)
    assert admin.asked == []


async def test_client_empty_id_is_rejected_unasked() -> None:
    async with fake_admin(answering()) as admin, admin.client() as client:
        with pytest.raises(errors.Rejected):
            await client.operate(Op.CANCEL, "")
    assert admin.asked == []


async def test_client_version_of_an_old_engine_has_no_features() -> None:
    old = {"version": "1.6.1", "min_admin_api_version": 2, "max_admin_api_version": 3, "ingress_endpoint": "http://x/"}
    async with fake_admin(answering(version=old)) as admin, admin.client() as client:
        version = await client.version()
    assert (version.release, version.max_admin_api, version.known_features) == ((1, 6, 1), 3, frozenset())


async def test_client_version_tells_features_on_from_off() -> None:
    new = {"version": "1.8.0-rc.1", "features": {"on": True, "off": False, "odd": "yes"}}
    async with fake_admin(answering(version=new)) as admin, admin.client() as client:
        version = await client.version()
    assert version.features == {"on"}
    assert version.known_features == {"on", "off", "odd"}
    assert version.min_admin_api is None


async def test_client_services_keep_what_the_engine_wrote() -> None:
    async with fake_admin(answering(services={"services": [SERVICE]}, a_b=SERVICE)) as admin, admin.client() as client:
        (service,) = await client.services()
    assert (service.name, service.revision, service.journal_retention, service.raw) == ("a.b/C", 3, None, SERVICE)
    assert [handler.name for handler in service.handlers] == ["h"]


@pytest.mark.parametrize(
    "broken",
    [
        {"services": None},
        {"services": [1]},
        {"services": [{**SERVICE, "revision": "3"}]},
        {"services": [{**SERVICE, "revision": True}]},
        {"services": [{**SERVICE, "name": ""}]},
        {"services": [{**SERVICE, "handlers": {}}]},
    ],
)
async def test_client_services_of_another_shape_are_bad_replies(broken: dict[str, Any]) -> None:
    async with fake_admin(answering(services=broken)) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply):
            await client.services()


async def test_client_query_takes_gzip() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        body = gzip.compress(json.dumps({"rows": [{"a": n} for n in range(5000)]}).encode())
        await wire.reply(200, body, Content_Encoding="gzip")

    async with fake_admin(script) as admin, admin.client() as client:
        assert [row["a"] async for row in client.query("select a")] == list(range(5000))


async def test_client_query_of_gzip_cut_off_raises() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        body = gzip.compress(json.dumps({"rows": [{"a": n} for n in range(5000)]}).encode())
        await wire.reply(200, body[: len(body) // 2], Content_Encoding="gzip")

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.CutOff):
            await client.rows("select a")


@pytest.mark.parametrize("kind", ["application/vnd.apache.arrow.stream", "text/html", "application/jsonp", ""])
async def test_client_query_answered_in_another_format_is_a_bad_reply(kind: str) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.reply(200, b'{"rows":[]}', kind=kind)

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply):
            await client.rows("select a")


async def test_client_rows_beyond_the_limit_are_a_bad_reply() -> None:
    async with fake_admin(answering(query={"rows": [{"a": 1}] * 3})) as admin, admin.client() as client:
        assert len(await client.rows("select a", limit=3)) == 3
        with pytest.raises(errors.BadReply):
            await client.rows("select a", limit=2)


def engine(*, columns: list[str], calls: list[dict[str, str]], version: str, pause: bool, batch: bool) -> Script:
    """An engine as far as its capabilities are asked for."""

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path == "/version":
            await wire.json(200, {"version": version})
        elif asked.path == "/query":
            about_columns = "information_schema" in asked.sql
            await wire.json(200, {"rows": [{"column_name": it} for it in columns] if about_columns else calls})
        elif asked.path.endswith("/pause") and pause:
            await wire.json(400, {"message": "The request field 'invocation_id' is invalid. Reason: bad format"})
        elif asked.path.startswith("/internal") and batch and json.loads(asked.body) == {"invocation_ids": []}:
            await wire.json(200, {"succeeded": [], "failed": []})
        else:
            await wire.reply(404, kind="")

    return script


ULID = {"idempotency_key": "01M84FZN0K1D7TGXYXDMB1X4EC", "created_at": "2026-11-23T15:21:53.427Z"}
OWN_ULID = {**ULID, "created_at": "2026-11-23T15:25:53.427Z"}
OWN_KEY = {"idempotency_key": "order-7", "created_at": "2026-11-23T15:21:53.427Z"}
NO_KEY = {"created_at": "2026-11-23T15:21:53.427Z"}


@pytest.mark.parametrize(
    ("version", "calls", "expected", "why"),
    [
        ("1.7.12", [NO_KEY, ULID], True, "made by the engine at the moment of the call"),
        ("1.7.12", [NO_KEY, OWN_KEY], False, "a call without a key was given none"),
        ("1.7.12", [NO_KEY, OWN_ULID], False, "an ULID of another moment is somebody's own"),
        ("1.7.12", [OWN_KEY], True, "undecided, 1.7"),
        ("1.7.12", [], True, "undecided, 1.7"),
        ("1.6.1", [OWN_KEY], False, "undecided, 1.6"),
        ("1.6.1", [], False, "undecided, 1.6"),
    ],
)
async def test_client_automatic_idempotency_keys_are_told_by_calls(
    version: str, calls: list[dict[str, str]], expected: bool, why: str
) -> None:
    script = engine(columns=["id"], calls=calls, version=version, pause=True, batch=True)
    async with fake_admin(script) as admin, admin.client() as client:
        assert (await client.capabilities()).automatic_idempotency_keys is expected, why


@pytest.mark.parametrize("there", [True, False])
async def test_client_capabilities_are_what_is_there(there: bool) -> None:
    columns = ["id", "scope", "restarted_from"] if there else ["id"]
    script = engine(columns=columns, calls=[], version="1.7.12", pause=there, batch=there)
    async with fake_admin(script) as admin, admin.client() as client:
        found = await client.capabilities()
    assert (found.pause, found.batch, found.scopes, found.restarted_from) == (there,) * 4
    assert found.columns == set(columns)


@pytest.mark.parametrize(("status", "usable"), [(403, True), (401, False)])
async def test_client_capabilities_behind_a_front_that_keeps_what_is_internal_lack_batches(
    status: int, usable: bool
) -> None:
    """People block ``/internal`` there. A 401 is about the token, and said to be."""
    inner = engine(columns=["id"], calls=[], version="1.7.12", pause=True, batch=True)

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path.startswith("/internal"):
            await wire.reply(status, b"<html>no</html>", kind="text/html")
        else:
            await inner(asked, wire)

    async with fake_admin(script) as admin, admin.client() as client:
        if usable:
            assert not (await client.capabilities()).batch
        else:
            with pytest.raises(errors.Unauthorized):
                await client.capabilities()


async def test_client_capabilities_of_an_engine_that_fails_are_not_guessed() -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path == "/version":
            await wire.json(200, {"version": "1.7.12"})
        elif asked.path == "/query":
            await wire.json(200, {"rows": [{"column_name": "id"}]})
        else:
            await wire.json(503, {"message": "later"})

    async with fake_admin(script) as admin, admin.client() as client:
        with pytest.raises(errors.ServerFault):
            await client.capabilities()


def identity(*deployments: str, name: str = "c", fingerprint: str | None = None) -> EngineIdentity:
    return EngineIdentity(name, fingerprint, frozenset(deployments))


@pytest.mark.parametrize(
    ("one", "other", "expected", "why"),
    [
        (identity("dp_1"), identity("dp_1", "dp_2"), True, "a deployment was added"),
        (identity("dp_1", "dp_2"), identity("dp_2"), True, "a deployment was removed"),
        (identity("dp_1"), identity("dp_1", name="d"), False, "another name"),
        (identity("dp_1"), identity("dp_2"), None, "all were replaced, or another cluster of that name"),
        (identity(), identity(), None, "nothing registered"),
        (identity(), identity("dp_1"), None, "the first one registered"),
        (identity("dp_1", fingerprint="f"), identity("dp_1", fingerprint="g"), False, "a fingerprint counts more"),
        (identity("dp_1", fingerprint="f"), identity("dp_2", fingerprint="f"), True, "a fingerprint counts more"),
        (identity("dp_1", fingerprint="f"), identity("dp_1"), True, "an engine that was upgraded to show one"),
    ],
)
def test_client_identity_compares(one: EngineIdentity, other: EngineIdentity, expected: bool | None, why: str) -> None:
    assert one.same_as(other) is expected, why
    assert other.same_as(one) is expected, why


async def test_client_identity_is_name_and_deployments() -> None:
    script = answering(cluster_health={"cluster_name": "c"}, query={"rows": [{"id": "dp_1"}, {"id": "dp_2"}]})
    async with fake_admin(script) as admin, admin.client() as client:
        assert await client.identity() == identity("dp_1", "dp_2")


@pytest.mark.parametrize("rows", [[], [{}], [{"now": "later"}], [{"now": 1}], [{"now": "2026-11-23T15:21:53"}] * 2])
async def test_client_clock_that_cannot_be_read_is_a_bad_reply(rows: list[dict[str, Any]]) -> None:
    async with fake_admin(answering(query={"rows": rows})) as admin, admin.client() as client:
        with pytest.raises(errors.BadReply):
            await client.now()
