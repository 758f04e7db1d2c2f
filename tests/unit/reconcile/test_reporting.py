"""The report of a run: every invocation once, through every crash and lost answer, in bounded memory."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.action import Outcome, Phase, Result
from invocation_operator.api.v1alpha1.record import RecordStatus
from invocation_operator.api.v1alpha1.report import RecordReport
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ClusterUnavailable, Forbidden, ObjectExists
from invocation_operator.cluster.records import Record
from invocation_operator.plan.facts import FEW_LINES, MANY_LINES
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.report import progress
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.reporting import BACKLOG, Reporter, recorded, status_of
from tests.unit.reconcile.fake_kube import FakeKube

BORN = datetime(2026, 1, 1, tzinfo=UTC)
OWNER: Object = {
    "apiVersion": "ops.restate.dev/v1alpha1",
    "kind": "InvocationAction",
    "metadata": {"name": "restart", "namespace": "shop", "uid": "9a5fd1c4-4a2e-4be2-9b5c-0cbf6ad3f01e"},
}


class Crash(Exception):
    """The process dies."""


class Pages(FakeKube):
    """Creates ConfigMaps; ``strike`` is asked before and after each."""

    def __init__(self) -> None:
        super().__init__()
        self.strike: Callable[[str, int], None] = lambda when, number: None
        self.creations = 0

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        number = self.creations
        self.creations += 1
        self.strike("before", number)
        name = body["metadata"]["name"]
        if (resource.plural, namespace, name) in self.objects:
            raise ObjectExists(name)
        content = {key: value for key, value in body.items() if key != "metadata"}
        made = self.put(resource, namespace, name, metadata=body["metadata"], **content)
        self.strike("after", number)
        return made

    def lines(self) -> list[dict[str, Any]]:
        """All lines, in the order of the pages."""
        pages = [obj for _, obj in sorted(self.objects.items())]
        texts = [gzip.decompress(base64.b64decode(obj["binaryData"]["report"])).decode() for obj in pages]
        return [json.loads(text) for page in texts for text in page.splitlines()]


class Run:
    """Settles one invocation after the other; what the record held last is what a successor finds."""

    def __init__(self, size: int, named: int = 0) -> None:
        self.kube = Pages()
        self.targets = [Planned(f"inv_{n}", BORN, InvocationStatus.COMPLETED, "checkout/pay") for n in range(size)]
        self.named = [Result(id=f"bad-{n}", outcome=Outcome.FAILED, reason="InvalidId") for n in range(named)]
        self.kept: RecordReport | None = None
        self.settled_in_record = 0
        self.most_pending = 0

    async def reporter(self) -> Reporter:
        status = type("Status", (), {"report": self.kept})
        plan = type("Plan", (), {"named": self.named})
        spec = type("Spec", (), {"plan": plan})
        fields = {"name": "iact-0123456789abcdef", "status": status, "spec": spec}
        record = cast("Record", type("Kept", (), fields))
        return await Reporter.begin(cast("KubeClient", self.kube), OWNER, record, self.targets)

    def commit(self, reporter: Reporter, settled: int) -> None:
        self.kept, self.settled_in_record = reporter.state(), settled
        reporter.keep(reporter.added)

    async def go_on(self, batch: int = 250) -> Reporter:
        """Work as a holder does, from what the record says: settle, write it down, write pages."""
        reporter = await self.reporter()
        settled = self.settled_in_record
        while settled < len(self.targets):
            for place in range(settled, min(settled + batch, len(self.targets))):
                new = f"new_{place}"
                result = Result(id=f"inv_{place}", outcome=Outcome.EFFECTIVE, reason="Restarted", new_id=new)
                reporter.add(place, result)
            settled = min(settled + batch, len(self.targets))
            self.most_pending = max(self.most_pending, reporter.backlog)
            self.commit(reporter, settled)
            if reporter.due.is_set():
                await reporter.flush()
        await reporter.flush(everything=True)
        return reporter

    def check(self, reporter: Reporter) -> None:
        lines = self.kube.lines()
        told = {found["id"]: found for found in lines}
        assert len(lines) == len(told) == len(self.targets) + len(self.named)
        assert reporter.lines == len(lines)
        assert all(told[target.id]["newId"] == f"new_{n}" for n, target in enumerate(self.targets))
        assert reporter.problem is None


async def test_report_tells_each_invocation_once_and_ids_named_in_vain_too() -> None:
    run = Run(3500, named=2)
    reporter = await run.go_on()
    run.check(reporter)
    assert [found["id"] for found in run.kube.lines()][:3] == ["bad-0", "bad-1", "inv_0"]
    status = reporter.status()
    assert status.config_maps == [name for _, _, name in sorted(run.kube.objects)]
    assert status.lines == 3502
    page = next(iter(run.kube.objects.values()))
    assert page["immutable"]
    assert page["metadata"]["ownerReferences"][0]["uid"] == OWNER["metadata"]["uid"]
    assert page["metadata"]["labels"]["ops.restate.dev/report"] == "iact-0123456789abcdef"


async def test_report_of_a_large_run_holds_no_more_than_a_page_in_memory() -> None:
    run = Run(60_000)
    run.check(await run.go_on())
    assert run.most_pending < MANY_LINES + 250
    assert len(run.kube.objects) == 10 + -(-50_000 // MANY_LINES)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(4))
async def test_report_through_a_crash_at_any_page_is_complete(when: str, number: int) -> None:
    run = Run(3500, named=1)

    def strike(moment: str, page: int) -> None:
        if (moment, page) == (when, number):
            raise Crash

    run.kube.strike = strike
    with pytest.raises(Crash):
        await run.go_on()
    run.check(await run.go_on())


@pytest.mark.parametrize("taken_over", [False, True])
async def test_report_that_a_run_waits_for_is_written_although_nothing_more_comes(taken_over: bool) -> None:
    """All of a large batch had its outcome while the record was written: the run waited for pages that nobody wrote."""
    run = Run(BACKLOG + 1)
    reporter = await run.reporter()
    for place in range(BACKLOG + 1):
        reporter.add(place, Result(id="x", outcome=Outcome.EFFECTIVE, reason="Restarted", new_id=f"new_{place}"))
    reporter.due.clear()
    run.commit(reporter, BACKLOG + 1)
    reporter = await run.reporter() if taken_over else reporter
    waiting = asyncio.create_task(reporter.room())
    async with asyncio.timeout(30):
        await reporter.due.wait()
        await reporter.flush()
        await waiting
    assert reporter.backlog <= BACKLOG


@pytest.mark.parametrize("when", ["before", "after"])
async def test_report_whose_answers_are_lost_again_and_again_is_complete(when: str) -> None:
    run = Run(3500)
    lost = set(range(0, 20, 2))

    def strike(moment: str, page: int) -> None:
        if moment == when and page in lost:
            lost.remove(page)
            raise ClusterUnavailable("no answer")

    run.kube.strike = strike
    reporter = None
    for _ in range(20):
        try:
            # Whoever goes on is another process, with what the record holds.
            reporter = await run.go_on()
            break
        except ClusterUnavailable:
            continue
    assert reporter is not None
    run.check(reporter)


async def test_report_of_a_holder_that_writes_late_is_that_of_its_successor() -> None:
    """It has lost the run and does not know: its page holds what the record holds, and is taken for what it is."""
    run = Run(1500)
    first = await run.reporter()
    for place in range(1200):
        first.add(place, Result(id="x", outcome=Outcome.EFFECTIVE, reason="Restarted", new_id=f"new_{place}"))
    run.commit(first, 1200)
    second = await run.reporter()
    await first.flush()
    for place in range(1200, 1500):
        second.add(place, Result(id="x", outcome=Outcome.EFFECTIVE, reason="Restarted", new_id=f"new_{place}"))
    run.commit(second, 1500)
    await second.flush(everything=True)
    run.check(second)


async def test_facts_that_no_record_holds_are_in_no_page() -> None:
    """They might be judged otherwise after a crash, and would be told twice."""
    run = Run(FEW_LINES)
    reporter = await run.reporter()
    for place in range(FEW_LINES):
        reporter.add(place, Result(id="x", outcome=Outcome.EFFECTIVE))
    assert reporter.due.is_set()
    assert reporter.needs_commit
    await reporter.flush(everything=True)
    assert run.kube.objects == {}


async def test_report_that_is_refused_is_given_up_and_says_why() -> None:
    run = Run(2500)

    def strike(moment: str, page: int) -> None:
        if page == 1 and moment == "before":
            raise Forbidden("quota exceeded")

    run.kube.strike = strike
    reporter = await run.go_on()
    assert reporter.status().problem == f"it was given up after {FEW_LINES} lines: quota exceeded"
    assert reporter.backlog == 0
    assert len(run.kube.lines()) == FEW_LINES
    again = await run.reporter()
    assert again.state().pages == 1


async def test_report_does_not_take_what_is_not_its_own() -> None:
    run = Run(500)
    name = (await run.reporter())._name()
    run.kube.put(Resource("configmaps"), "shop", name, binaryData={"report": ""}, metadata={"ownerReferences": []})
    reporter = await run.go_on()
    assert "is there and is not of this report" in (reporter.status().problem or "")


async def test_report_of_a_stopped_run_tells_what_was_not_touched() -> None:
    run = Run(3000)
    reporter = await run.reporter()
    ledger = Ledger(3000)
    for place in range(500):
        ledger.settle(place, Outcome.EFFECTIVE)
        reporter.add(place, Result(id="x", outcome=Outcome.EFFECTIVE))
    run.commit(reporter, 500)
    await reporter.flush(everything=True)
    await reporter.rest(ledger)
    outcomes = [found["outcome"] for found in run.kube.lines()]
    assert outcomes == ["Effective"] * 500 + ["NotTouched"] * 2500
    assert reporter.status().lines == 3000


@pytest.mark.parametrize("written", [0, 1, 2])
async def test_report_of_a_run_whose_end_only_its_record_tells_names_every_page(written: int) -> None:
    """Those that were not touched are written when the record is closed already; then the operator crashes."""
    run = Run(2 * FEW_LINES)
    reporter = await run.reporter()
    ledger = Ledger(2 * FEW_LINES)
    for place in range(10):
        ledger.settle(place, Outcome.EFFECTIVE)
        reporter.add(place, Result(id="x", outcome=Outcome.EFFECTIVE))
    run.commit(reporter, 10)
    await reporter.flush(everything=True)
    run.commit(reporter, 10)

    def strike(moment: str, page: int) -> None:
        if moment == "before" and page > written:
            raise Crash

    run.kube.strike = strike
    with suppress(Crash):
        await reporter.rest(ledger)
    counted = progress(ledger, run.named)
    status = RecordStatus(phase=Phase.STOPPED, progress=counted, report=run.kept)
    spec = type("Spec", (), {"source": type("Source", (), {"uid": OWNER["metadata"]["uid"]})})
    fields = {"name": "iact-0123456789abcdef", "status": status, "spec": spec}
    record = cast("Record", type("Kept", (), fields))
    told = await recorded(cast("KubeClient", run.kube), OWNER, record)
    assert told is not None
    assert told.config_maps == [name for _, _, name in sorted(run.kube.objects)]
    assert told.lines == len(run.kube.lines())
    assert (told.problem is None) == (told.lines == 2 * FEW_LINES)


def test_report_of_very_many_pages_names_some_and_counts_the_rest() -> None:
    status = status_of(OWNER["metadata"]["uid"], "iact-0123456789abcdef", 1200, 9, None)
    assert len(status.config_maps or ()) == 300
    assert status.omitted == 900
    assert len(status.model_dump_json()) < 24_000
