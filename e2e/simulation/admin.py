"""The model engine's admin API: requests in, status and bytes out, in the words of the real one.

A request that the model does not know ends the history with `UnknownRequest`: what the operator asks for anew has to be
modelled, and tried on the real engine, before it may be simulated.
"""

from typing import Any

from pydantic_core import to_json

from e2e.simulation.engine import Engine, Refused
from e2e.simulation.tables import MalformedId
from invocation_operator.values.ids import is_invocation_id

OPERATIONS = ("cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new")
BATCH_LIMIT = 1000


class UnknownRequest(Exception):
    """Nobody has taught the model this."""


Answer = tuple[int, str, bytes]
"""Status, content type, body."""


def answer(engine: Engine, method: str, path: list[str], query: dict[str, str], body: Any) -> Answer:
    """Answer one request; `path` are the decoded segments."""
    match method, path:
        case "GET", ["version"]:
            features: dict[str, bool] = {}
            return _json(
                200,
                {
                    "version": engine.version,
                    "min_admin_api_version": 2,
                    "max_admin_api_version": 4,
                    "features": features,
                },
            )
        case "GET", ["cluster-health"]:
            return _json(200, {"cluster_name": engine.cluster_name})
        case "POST", ["query"]:
            return _query(engine, body["query"])
        case "PATCH", ["invocations", id_, operation] if operation in OPERATIONS:
            return _operate(engine, operation, id_, query)
        case "POST", ["internal", "invocations_batch_operations", operation]:
            return _batch(engine, operation, body)
    raise UnknownRequest(f"the model engine does not know {method} /{'/'.join(path)}")


def _query(engine: Engine, sql: str) -> Answer:
    try:
        rows = engine.query(sql)
    except MalformedId:
        return _json(500, {"message": "Datafusion error: External error: non valid invocation id"})
    return _json(200, {"rows": rows})


def _operate(engine: Engine, operation: str, id_: str, query: dict[str, str]) -> Answer:
    if not is_invocation_id(id_):
        reason = "The request field 'invocation_id' is invalid. Reason: unrecognized codec version"
        return _json(400, {"message": reason, "restate_code": None})
    if engine.replaying is not None:
        return _json(503, {"message": "Error when routing the request internally. Reason: not leader"})
    try:
        status, new_id = engine.operate(operation, id_, deployment=query.get("deployment"))
    except Refused as refused:
        return _json(refused.status, {"message": refused.message, "restate_code": None})
    return _json(status, {"new_invocation_id": new_id}) if new_id is not None else (status, "", b"")


def _batch(engine: Engine, operation: str, body: Any) -> Answer:
    ids = body.get("invocation_ids") if isinstance(body, dict) else None
    if operation not in OPERATIONS:
        return 404, "", b""
    if not isinstance(ids, list):
        return 422, "text/plain; charset=utf-8", b"Failed to deserialize the JSON body into the target type"
    if len(ids) > BATCH_LIMIT:
        message = f"Batch size {len(ids)} exceeds maximum allowed size of {BATCH_LIMIT}"
        return _json(400, {"message": message, "restate_code": None})
    if not all(is_invocation_id(id_) for id_ in ids):
        return 422, "text/plain; charset=utf-8", b"Failed to deserialize the JSON body into the target type"
    if engine.replaying is not None and ids:
        return _json(503, {"message": "Error when routing the request internally. Reason: not leader"})
    succeeded: list[Any] = []
    failed: list[dict[str, str]] = []
    for id_ in ids:
        try:
            _, new_id = engine.operate(operation, id_, deployment=body.get("deployment"))
        except Refused as refused:
            failed.append({"invocation_id": id_, "error": _in_a_batch(id_, refused)})
        else:
            succeeded.append(id_ if new_id is None else {"old_invocation_id": id_, "new_invocation_id": new_id})
    return _json(200, {"succeeded": succeeded, "failed": failed})


def _in_a_batch(id_: str, refused: Refused) -> str:
    """Some refusals read otherwise in a batch."""
    if refused.status == 404:
        return f"Invocation '{id_}' not found"
    if "deployment id cannot be changed" in refused.message:
        return f"Cannot change deployment ID for invocation '{id_}'"
    return refused.message


def _json(status: int, value: Any) -> Answer:
    return status, "application/json", to_json(value)
