"""The story: a payment provider that hangs, and what a person does about it with manifests.

Every chapter ends with checks in the engine itself or in the services' own record; one that does not hold ends it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from e2e.demo.stage import NAMESPACE, OPERATOR_NAMESPACE, DemoError, Object, Stage

STUCK = range(1001, 1013)
HANGING = range(1101, 1104)
REFUSED = range(1201, 1205)
LATER = range(1301, 1304)
ARTICLES = ("chair", "lamp", "table")

CANCEL = "cancel-stuck-checkouts"
RESTART = "restart-order-1003"
KILL = "kill-hanging-checkouts"
PAUSE = "pause-payments"
RESUME = "resume-payments"
PURGE = "purge-finished-checkouts"
SWEEPS = "checkout-sweeps"


class Story:
    """Plays on a stage; remembers the invocation of each order."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.screen = stage.screen
        self.engine = stage.engine
        self.orders: dict[int, str] = {}

    def play(self) -> None:
        for chapter in self.chapters():
            chapter()

    def chapters(self) -> Sequence[Callable[[], None]]:
        return (
            self.pile_up,
            self.refused,
            self.cancel,
            self.compensated,
            self.restart,
            self.kill,
            self.pause,
            self.resume,
            self.purge,
            self.once,
            self.again,
            self.kept,
            self.swept,
            self.trail,
        )

    # The chapters.

    def pile_up(self) -> None:
        self.screen.chapter(
            "Invocations pile up",
            "Each checkout reserves its article, then asks the payment provider. The provider does not answer.",
        )
        self.stage.shop.world(provider="hangs")
        self.place(STUCK)
        self.stage.until("all checkouts wait", lambda: self.count("checkout", "suspended") == len(STUCK))
        self.stage.kubectl("get reng")
        self.screen.read(1)
        self.screen.aside("What this engine holds:")
        self.show_engine()
        self.stage.check(
            f"{len(STUCK)} checkouts wait, and {len(STUCK)} pieces are reserved for them",
            lambda: self.reserved() == len(STUCK),
        )
        self.screen.read(3)

    def refused(self) -> None:
        self.screen.chapter(
            "Too quick a hand", "Somebody wants to kill whatever runs. The API server does not take it."
        )
        said = self.stage.apply("too-wide.yaml", expect_failure=True)
        if "the target must narrow" not in said:
            raise DemoError(f"refused, but not because the target does not narrow: {said}")
        self.stage.check("refused, and nothing was touched", lambda: self.count("checkout", "suspended") == len(STUCK))
        self.screen.read(4)

    def cancel(self) -> None:
        self.screen.chapter("Cancel what is stuck", "Which invocations, why, and within which limits: in one manifest.")
        self.grow_old("created_at", len(STUCK))
        self.stage.apply("cancel-stuck-checkouts.yaml")
        done = self.stage.watch(CANCEL, "Succeeded")
        self.expect(done, effective=len(STUCK))
        self.stage.check(
            f"the engine says: {len(STUCK)} checkouts ended as cancelled, none is alive",
            lambda: self.ended("cancelled") == len(STUCK) and self.alive("checkout") == 0,
        )
        self.screen.read(2)

    def compensated(self) -> None:
        self.screen.chapter(
            "The compensations ran",
            "A cancel is cooperative: each checkout undid what it had done. From the services' own record:",
        )
        world = self.stage.shop.world()
        orders = [str(number) for number in STUCK]
        rows = [["ARTICLE", "RESERVED NOW", "RELEASED BY COMPENSATION"]]
        for article in ARTICLES:
            released = [n for n in STUCK if self.article(n) == article and str(n) in world["released"]]
            rows.append([article, str(world["stock"].get(article, 0)), " ".join(map(str, released))])
        self.screen.table(rows)
        self.stage.check("nothing is reserved any more", lambda: self.reserved() == 0)
        self.stage.check(
            f"each of the {len(STUCK)} reservations was released once, and nobody was charged",
            lambda: sorted(self.stage.shop.world()["released"]) == orders and not self.stage.shop.world()["charges"],
        )
        self.screen.read(4)

    def restart(self) -> None:
        self.screen.chapter(
            "One customer still wants it",
            "The provider answers again. Order 1003 is restarted: a new invocation with the same input.",
        )
        self.stage.shop.world(provider="ok")
        self.stage.apply("restart-order.yaml")
        self.stage.watch(RESTART, "Succeeded")
        said = self.stage.kubectl(f"get iact {RESTART} -o jsonpath=\"{{.status.results[0]['id','newId']}}\"")
        old, _, new = said.strip().partition(" ")
        self.stage.check(
            "the new invocation was restarted from order 1003's and went through",
            lambda: old == self.orders[1003] and self.row(new, restarted_from=old, completion_result="success"),
        )
        self.stage.check("order 1003 was charged, once", lambda: self.stage.shop.world()["charges"] == ["1003"])
        self.screen.read(3)

    def kill(self) -> None:
        self.screen.chapter(
            "The last resort, looked at first",
            "Now the shop's own process is frozen: a cancel would reach nobody. Only a kill ends such invocations, and "
            "no compensation runs. So: a dry run.",
        )
        self.stage.shop.world(provider="hangs")
        self.place(HANGING)
        self.stage.until("they wait", lambda: self.count("checkout", "suspended") == len(HANGING))
        self.stage.shop.process.pause()
        self.stage.apply("kill-hanging-checkouts.yaml")
        planned = self.stage.wait(KILL, "Planned")
        self.stage.kubectl(f"describe iact {KILL}", keep=section("Plan", drop=("Sample", "Hash", "Time")))
        self.screen.read(4)
        cascade = planned["status"]["plan"]["cascade"]["total"]
        self.stage.check(
            f"the plan shows {len(HANGING)} checkouts and {cascade} charges that die with them; all are still alive",
            lambda: cascade == self.alive("payment") == self.alive("checkout") == len(HANGING),
        )
        self.screen.aside("That is what is meant. Execute carries out the plan that was shown, and nothing else:")
        self.stage.kubectl(f'patch iact {KILL} --type=merge -p \'{{"spec":{{"mode":"Execute"}}}}\'')
        done = self.stage.watch(KILL, "Succeeded")
        self.expect(done, effective=len(HANGING))
        self.stage.check(
            f"{len(HANGING)} checkouts and {cascade} charges ended as killed, though the process is frozen",
            lambda: self.ended("killed") == self.ended("killed", "payment") == len(HANGING),
        )
        self.stage.shop.process.resume()
        self.stage.check(
            f"and no compensation ran: {len(HANGING)} pieces stay reserved (and the one that was sold)",
            lambda: self.reserved() == len(HANGING) + 1 and len(self.stage.shop.world()["released"]) == len(STUCK),
        )
        self.screen.read(3)

    def pause(self) -> None:
        self.screen.chapter(
            "Stop hammering",
            "The shop is back, the provider answers 503 to everything: each charge is tried over and over.",
        )
        self.stage.shop.world(provider="fails")
        self.place(REFUSED)
        self.stage.until("the charges back off", lambda: self.count("payment", "backing-off") == len(REFUSED))
        self.stage.apply("pause-payments.yaml")
        done = self.stage.watch(PAUSE, "Succeeded")
        self.expect(done, effective=len(REFUSED))
        self.stage.check(
            f"{len(REFUSED)} charges are paused, their checkouts wait for them",
            lambda: (
                self.count("payment", "paused") == len(REFUSED) and self.count("checkout", "suspended") == len(REFUSED)
            ),
        )
        self.screen.read(2)

    def resume(self) -> None:
        self.screen.chapter("Go on", "The provider is repaired.")
        self.stage.shop.world(provider="ok")
        self.stage.apply("resume-payments.yaml")
        done = self.stage.watch(RESUME, "Succeeded")
        self.expect(done, effective=len(REFUSED))
        charged = ["1003", *map(str, REFUSED)]
        self.stage.check(
            f"{len(REFUSED)} orders went through, each charged once",
            lambda: sorted(self.stage.shop.world()["charges"]) == charged and self.alive("checkout") == 0,
        )
        self.screen.read(2)

    def purge(self) -> None:
        self.screen.chapter(
            "Tidy up", "What succeeded can be forgotten before its retention ends; the rest stays to be looked at."
        )
        succeeded = len(REFUSED) + 1
        self.stage.until("they succeeded", lambda: self.succeeded() == succeeded)
        self.grow_old("completed_at", succeeded, "completion_result = 'success'")
        self.stage.apply("purge-finished.yaml")
        done = self.stage.watch(PURGE, "Succeeded")
        self.expect(done, effective=succeeded)
        self.stage.check(
            f"{succeeded} succeeded checkouts are gone; {len(STUCK)} cancelled, {len(HANGING)} killed ones remain",
            lambda: (
                self.succeeded() == 0 and self.ended("cancelled") == len(STUCK) and self.ended("killed") == len(HANGING)
            ),
        )
        self.screen.read(2)

    def once(self) -> None:
        self.screen.chapter(
            "The same manifest a second time",
            "A GitOps tool, or a restored backup, creates the first manifest anew, while other checkouts wait for good "
            "reasons. They match it, and must not be touched.",
        )
        self.stage.shop.world(provider="hangs")
        self.place(LATER)
        self.stage.until("they wait", lambda: self.count("checkout", "suspended") == len(LATER))
        self.grow_old("created_at", len(LATER))
        self.stage.kubectl(f"delete iact {CANCEL}")
        self.stage.apply("cancel-stuck-checkouts.yaml", shown=False)
        self.stage.watch(CANCEL, "AlreadyExecuted")
        self.stage.kubectl(
            f"describe iact {CANCEL}", keep=section("Conditions", only=("Message", "Reason", "Status", "Type"))
        )
        self.stage.check(
            f"the {len(LATER)} new checkouts, which it matches, are untouched",
            lambda: self.count("checkout", "suspended") == len(LATER) and self.ended("cancelled") == len(STUCK),
        )
        self.screen.read(4)

    def again(self) -> None:
        self.screen.chapter("Again, but meant", "A new runId is how a person says: once more.")
        self.stage.kubectl(f'patch iact {CANCEL} --type=merge -p \'{{"spec":{{"runId":"second-outage"}}}}\'')
        done = self.stage.watch(CANCEL, "Succeeded")
        self.expect(done, effective=len(LATER))
        self.stage.check(
            f"now {len(LATER)} more are cancelled, their articles released",
            lambda: (
                self.ended("cancelled") == len(STUCK) + len(LATER)
                and len(self.stage.shop.world()["released"]) == len(STUCK) + len(LATER)
            ),
        )
        self.screen.read(2)

    def kept(self) -> None:
        self.screen.chapter(
            "Kept for as long as you say",
            "How long completed work stays can be set from outside, and the engine forgets it with every deployment. A "
            "policy sets it again.",
        )
        self.stage.apply("retention.yaml")
        self.stage.until("the policy is in force", lambda: self.policy("checkout").get("summary") == "1/1")
        self.stage.kubectl("get rpol")
        self.screen.read(2)
        self.screen.aside("The services are deployed again, which resets what was set:")
        self.engine.register(self.stage.shop.uri, force=True)
        self.stage.until("the drift is seen", lambda: self.policy("checkout").get("drifts") == 1)
        self.stage.kubectl("get rpol")
        self.stage.check(
            "the engine keeps results of checkouts for two days again",
            lambda: self.engine.admin("GET", "/services/checkout").json()["idempotency_retention"] == "2d",
        )
        self.screen.read(2)

    def swept(self) -> None:
        self.screen.chapter(
            "Swept",
            "What exists already keeps its retention. Sweeps purge it on a schedule, or when they are asked to.",
        )
        cancelled = self.ended("cancelled")
        self.grow_old("completed_at", cancelled, "completion_failure = '[409] cancelled'")
        self.stage.apply("retention-sweeps.yaml")
        self.stage.kubectl(f"annotate rpol {SWEEPS} ops.restate.dev/requestedAt=now")
        self.stage.until("it is swept", lambda: self.policy(SWEEPS).get("lastHandledRequest") == "now", 60)
        self.stage.kubectl(f"get rpol {SWEEPS}")
        self.stage.check(
            f"of {cancelled} cancelled checkouts the last five remain; {len(HANGING)} killed ones are not touched",
            lambda: self.ended("cancelled") == 5 and self.ended("killed") == len(HANGING),
        )
        self.screen.read(3)

    def policy(self, name: str) -> dict[str, Any]:
        """The status of a RetentionPolicy."""
        found: dict[str, Any] = self.stage.cluster.get("rpol", name, "-n", NAMESPACE).get("status", {})
        return found

    def trail(self) -> None:
        self.screen.chapter(
            "What is left to read", "The actions as they stand, one in full, and the record of every run."
        )
        self.stage.kubectl("get iact")
        self.screen.read(3)
        self.stage.kubectl(f"describe iact {KILL}", keep=section("Events", until_end=True))
        self.screen.read(3)
        self.stage.kubectl(f"get irec -n {OPERATOR_NAMESPACE} --sort-by=.metadata.creationTimestamp", keep=short_names)
        records = self.stage.cluster.get("irec", "-n", OPERATOR_NAMESPACE)["items"]
        self.stage.check(
            "eight runs, eight records: the dry run, the refused one and the second creation made none",
            lambda: len(records) == 8 and {r["status"]["phase"] for r in records} == {"Succeeded"},
        )

    # What is asked of the engine and the services.

    def place(self, numbers: range) -> None:
        """Send one checkout for each order number."""
        for number in numbers:
            order = {"number": str(number), "article": self.article(number)}
            self.orders[number] = self.engine.send("checkout", "place", order, idempotency_key=f"order-{number}")

    @staticmethod
    def article(number: int) -> str:
        return ARTICLES[number % len(ARTICLES)]

    def show_engine(self) -> None:
        """What the engine holds, as a table."""
        query = (
            "select target, status, count(*) as n from sys_invocation where status <> 'completed' "
            "group by target, status order by target"
        )
        rows = [["INVOCATIONS OF", "STATUS", "COUNT"]]
        self.screen.table(rows + [[r["target"], r["status"], str(r["n"])] for r in self.engine.sql(query)])

    def number(self, condition: str) -> int:
        return int(self.engine.sql(f"select count(*) as n from sys_invocation where {condition}")[0]["n"])

    def count(self, service: str, status: str) -> int:
        return self.number(f"target_service_name = '{service}' and status = '{status}'")

    def alive(self, service: str) -> int:
        return self.number(f"target_service_name = '{service}' and status <> 'completed'")

    def ended(self, how: str, service: str = "checkout") -> int:
        """How many ended as `cancelled` or `killed`."""
        return self.number(f"target_service_name = '{service}' and completion_failure = '[409] {how}'")

    def succeeded(self) -> int:
        return self.number("target_service_name = 'checkout' and completion_result = 'success'")

    def grow_old(self, since: str, expected: int, condition: str = "status = 'suspended'") -> None:
        """Wait until so many checkouts are as old as the manifests ask (2 s), on the engine's clock."""
        old = f"target_service_name = 'checkout' and {condition} and {since} < now() - interval '2 seconds'"
        self.stage.until(f"{expected} checkouts are old enough", lambda: self.number(old) == expected)

    def reserved(self) -> int:
        return sum(self.stage.shop.world()["stock"].values())

    def row(self, id_: str, **expected: Any) -> bool:
        """Whether the invocation is there and its row says so."""
        found = self.engine.invocation(id_)
        return found is not None and all(found.get(name) == value for name, value in expected.items())

    @staticmethod
    def expect(action: Object, *, effective: int) -> None:
        """The action counts what the engine shows."""
        progress = action["status"]["progress"]
        if (progress["total"], progress["effective"]) != (effective, effective):
            raise DemoError(f"{action['metadata']['name']} counts {progress}, expected {effective} effective")


def section(
    title: str, *, drop: Sequence[str] = (), only: Sequence[str] = (), until_end: bool = False
) -> Callable[[str], str]:
    """Return what keeps one section of `kubectl describe`: the lines below ``title``, or some of them."""

    def keep(text: str) -> str:
        lines = text.splitlines()
        start = next(i for i, line in enumerate(lines) if re.match(rf"\s*{title}:", line))
        depth = indent(lines[start])
        kept, skipping = [lines[start]], -1
        for line in lines[start + 1 :]:
            if not until_end and indent(line) <= depth:
                break
            name = line.strip().partition(":")[0]
            if skipping >= 0 and indent(line) > skipping:
                continue
            skipping = -1
            if name in drop or (only and name not in only):
                skipping = indent(line)
                continue
            kept.append(line)
        return "\n".join(line[depth:] for line in kept)

    return keep


def short_names(table: str) -> str:
    """Cut the names of records, which are hashes and wide, in the middle of a table."""
    cut = 44
    lines = [re.sub(rf"^((?:iact|rpol)-[0-9a-f]{{4}})[0-9a-f]{{{cut}}}", r"\1…", line) for line in table.splitlines()]
    return "\n".join([lines[0].replace("NAME" + " " * (cut - 1), "NAME", 1), *lines[1:]])


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
