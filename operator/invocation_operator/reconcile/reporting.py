"""The report of a run: pages of lines, written while the run goes on, complete through every crash.

What becomes of an invocation is *pending* until it is in a page. Pending facts are kept in the record, in the same
write as the ledger; only facts that are kept there go into pages, in the order in which they came. So whoever takes the
run over knows by the lines of the pages that are there which of the kept facts are in them, and no invocation is told
twice or lost. A page is created once and never changed, and memory holds no more than what is pending.

A report that the API server will not take is given up, with the reason in its status: the run is what matters.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import structlog

from invocation_operator.api.v1alpha1.action import Result
from invocation_operator.api.v1alpha1.report import RecordReport, ReportStatus
from invocation_operator.cluster.chunks import create_page, read_page
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable, ObjectExists, ObjectNotFound
from invocation_operator.cluster.records import Record
from invocation_operator.plan.facts import (
    FORMAT,
    DamagedFacts,
    Fact,
    decode,
    encode,
    fact,
    line,
    lines_in,
    page,
    page_lines,
)
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.targets import Planned

log = structlog.get_logger(__name__)

BACKLOG = 8000
"""Facts that may be pending before a run asks for nothing new: the record has room for these and for those that are in
flight by then."""
SHOWN = 300
"""Names of pages in a status."""
INTERRUPTED = "the operator was interrupted while it wrote this: invocations that were not touched may be missing."


@dataclass(slots=True)
class Reporter:
    """Writes the report of one run."""

    client: KubeClient
    owner: Object
    record: str
    targets: Sequence[Planned]
    named: Sequence[Result]
    pages: int = 0
    """Pages that are written, and the number of the next one."""
    lines: int = 0
    """Facts that are in them."""
    problem: str | None = None
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is enough for a page."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: deque[Fact] = field(default_factory=deque)
    _kept: int = 0
    """How many facts, from the very first, the record is known to hold, or pages do."""

    @classmethod
    async def begin(cls, client: KubeClient, owner: Object, record: Record, targets: Sequence[Planned]) -> Self:
        """Begin a report, or go on with that of an earlier holder of the run. Raises the errors of ``cluster``."""
        named = record.spec.plan.named or []
        made = cls(client, owner, record.name, targets, named)
        known = record.status.report
        if known is None:
            made._pending.extend(fact(-1 - number, result) for number, result in enumerate(named))
            return made
        made.pages, made.lines, made.problem = known.pages, known.lines, known.problem
        try:
            made._pending.extend(decode(known.pending) if known.pending else ())
        except DamagedFacts as error:
            made._give_up(str(error))
        made._kept = made.added
        while made.problem is None and await made._catch_up():
            pass
        return made

    @property
    def added(self) -> int:
        """How many facts there are, from the very first."""
        return self.lines + len(self._pending)

    @property
    def backlog(self) -> int:
        """How many facts are pending."""
        return len(self._pending)

    async def room(self) -> None:
        """Wait while too much is pending: the API server takes the record then, and no pages."""
        while self.backlog > BACKLOG:
            self._moved.clear()
            # Nothing more may come that would ask for a page: whoever waits here is who would bring it.
            self.due.set()
            await self._moved.wait()

    def add(self, place: int, result: Result) -> None:
        """Take in what became of an invocation; called by the findings of the run."""
        if self.problem is None and place >= 0:
            self._pending.append(fact(place, result))
            if len(self._pending) >= page_lines(self.pages):
                self.due.set()

    def state(self) -> RecordReport:
        """Return what the record keeps."""
        pending = encode(self._pending) if self._pending else None
        return RecordReport(pages=self.pages, lines=self.lines, pending=pending, problem=self.problem)

    def keep(self, added: int) -> None:
        """Take note that the record holds the first ``added`` facts, as far as no page does."""
        self._kept = max(self._kept, added)

    @property
    def needs_commit(self) -> bool:
        """Whether a page is due whose facts the record is not known to hold."""
        return self._kept - self.lines < min(page_lines(self.pages), len(self._pending))

    async def flush(self, *, everything: bool = False) -> None:
        """Write full pages of what the record holds; with ``everything`` the rest too.

        Raises ``ClusterUnavailable``: then the same call may be repeated.
        """
        self.due.clear()
        while self.problem is None:
            ready = min(self._kept - self.lines, page_lines(self.pages))
            if ready <= 0 or (ready < page_lines(self.pages) and not everything):
                return
            lines = [line(found, self.targets, self.named) for found in islice(self._pending, ready)]
            await self._write(*await asyncio.to_thread(page, lines))

    async def rest(self, ledger: Ledger) -> None:
        """Write those that have no outcome, once the run has ended for good: they are in no record."""
        left = (n for n in range(len(ledger)) if ledger.outcome(n) is None)
        while self.problem is None and (some := [Fact(n, None) for n in islice(left, page_lines(self.pages))]):
            self._pending.extend(some)
            self._kept = self.added
            try:
                await self.flush(everything=True)
            except ClusterUnavailable as error:
                self._give_up(str(error))

    def status(self) -> ReportStatus:
        """Return what people are told."""
        return status_of(self.owner["metadata"]["uid"], self.record, self.pages, self.lines, self.problem)

    async def _write(self, content: bytes, count: int) -> None:
        try:
            await create_page(self.client, self.owner, self._name(), self.record, content)
        except ObjectExists:
            # A try whose answer was lost, or an earlier holder's that wrote late: the same facts, maybe fewer.
            if not await self._catch_up():
                self._give_up(f"the ConfigMap {self._name()} is there and is not of this report.")
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            self._give_up(str(error))
        else:
            self._turn(count)

    async def _catch_up(self) -> bool:
        """Take note of the next page if it is there already."""
        try:
            content = await read_page(self.client, self.owner, self._name())
            count = lines_in(content)
        except ObjectNotFound:
            return False
        except DamagedFacts as error:
            self._give_up(str(error))
            return False
        if count > len(self._pending):
            self._give_up(f"the ConfigMap {self._name()} holds more than this run has written.")
            return False
        self._turn(count)
        return True

    def _turn(self, count: int) -> None:
        for _ in range(count):
            self._pending.popleft()
        self.lines += count
        self.pages += 1
        self._moved.set()

    def _give_up(self, why: str) -> None:
        self.problem = f"it was given up after {self.lines} lines: {why}"[:1024]
        self._pending.clear()
        self._moved.set()
        log.warning("report given up", record=self.record, error=why)

    def _name(self) -> str:
        return page_name(self.owner["metadata"]["uid"], self.record, self.pages)


def page_name(uid: str, record: str, number: int) -> str:
    """Return the name of a page: of this very object and run."""
    return f"iact-report-{uid}-{record.removeprefix('iact-')[:8]}-{number:04d}"


def status_of(uid: str, record: str, pages: int, lines: int, problem: str | None) -> ReportStatus:
    """Return what people are told of a report."""
    names = [page_name(uid, record, number) for number in range(min(pages, SHOWN))]
    omitted = max(0, pages - SHOWN)
    return ReportStatus(format=FORMAT, config_maps=names or None, omitted=omitted, lines=lines, problem=problem)


async def recorded(client: KubeClient, owner: Object, record: Record) -> ReportStatus | None:
    """Return what people are told when only the record knows how the run ended: also pages with those that were not
    touched, which are written after that.
    """
    known, counted = record.status.report, record.status.progress
    if known is None:
        return None
    uid, pages, lines = record.spec.source.uid, known.pages, known.lines
    with suppress(ObjectNotFound, DamagedFacts):
        while known.problem is None:
            lines += lines_in(await read_page(client, owner, page_name(uid, record.name, pages)))
            pages += 1
    unreached = counted is not None and counted.done < counted.total and lines < counted.total
    problem = known.problem or (INTERRUPTED if unreached else None)
    return status_of(uid, record.name, pages, lines, problem)
