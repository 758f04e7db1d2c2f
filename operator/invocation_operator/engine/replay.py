"""Whether an engine has read its log: until then its rows are those of an earlier time, or none at all.

After a restart ``/query`` answers 200 with no rows, or old ones, until a partition has replayed its log (0.02 to 0.8 s
observed on 1.7.12). Absence then means nothing, and an effect that is not seen may be there. Calls on invocations tell:
they go to the partition's leader, which answers 503 until it has caught up and 404 for an invocation that does not
exist. So an invocation that cannot exist is asked for in the same partition: the id keeps its partition key, and its
random part is replaced. A batch of such calls tells the same of each, in one request. Observed on 1.6.1 and 1.7.12;
single-node engines.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from invocation_operator.engine import batch, errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.models import Op
from invocation_operator.values.ids import sibling, spread

SPREAD = 32
"""Partition keys that are asked for a whole engine; it has 24 partitions unless told otherwise."""
LIMIT = 128
"""So many invocations are asked for one by one; with more, all partitions are, this often over the key space."""
AT_ONCE = 16

_TAKEN = "the engine took a call on an invocation that does not exist"


async def require_caught_up(client: EngineClient, ids: Iterable[str] | None = None, *, batches: bool = False) -> None:
    """Ask the partitions of ``ids``, or all of them, whether they have read their log.

    What is read after this returns is not older than the call. ``batches``: the engine's batch endpoint can be relied
    on. Raises ``ServerFault`` (503) when one has not, and the client's other errors.
    """
    asked = dict.fromkeys(spread(SPREAD) if ids is None else map(sibling, ids))
    if len(asked) > LIMIT:
        asked = dict.fromkeys(spread(LIMIT))
    if batches and len(asked) > 1 and await _ask_many(client, list(asked)):
        return
    left = iter(asked)
    answers = await asyncio.gather(*(_ask_all(client, left) for _ in range(AT_ONCE)), return_exceptions=True)
    for answer in answers:
        if answer is not None:
            raise answer


async def _ask_many(client: EngineClient, ids: Sequence[str]) -> bool:
    """Ask for all in one request; False when the endpoint does not do it (any more), and the public calls must tell."""
    try:
        answer = await batch.operate_many(client, Op.CANCEL, ids)
    except errors.Throttled:
        raise
    except (errors.Rejected, errors.Unauthorized, errors.BadReply):
        return False
    if answer.taken:
        raise errors.BadReply(_TAKEN)
    for refusal in answer.refused.values():
        if refusal.status != 404:
            raise errors.ServerFault(refusal.message, status=503)
    return True


async def _ask_all(client: EngineClient, ids: Iterator[str]) -> None:
    """Ask what is left, with others at the same time; the first failure leaves nothing: it says enough."""
    for id_ in ids:
        try:
            await client.operate(Op.CANCEL, id_)
        except errors.NotFound:
            continue
        except errors.EngineError:
            for _ in ids:
                pass
            raise
        raise errors.BadReply(_TAKEN)
