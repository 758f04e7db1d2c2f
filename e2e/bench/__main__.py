"""`python -m e2e.bench [topic …] [--write]`: measure and print; with --write the figures go into the documentation."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from e2e.bench import figures, footprint, latency, many, retention, scale, throughput
from e2e.bench.stage import Stage, stage
from e2e.rig import StartError, toolchain


@dataclass(frozen=True)
class Topic:
    """Something that is measured on a stage of its own, with a place in the documentation."""

    measure: Callable[[Stage, int], Sequence[figures.Figure]]
    note: str
    services: str = "lab"


TOPICS = {
    "latency": Topic(latency.measure, latency.NOTE),
    "footprint": Topic(footprint.measure, footprint.NOTE),
    **{
        name: Topic(partial(throughput.measure, subject=subject), throughput.NOTE, throughput.SERVICES)
        for name, subject in throughput.TOPICS.items()
    },
    "scale": Topic(scale.measure, scale.NOTE, scale.SERVICES),
    "report": Topic(partial(scale.measure, report="ConfigMap"), scale.NOTE, scale.SERVICES),
    "million": Topic(partial(scale.measure, large=scale.HUGE), scale.NOTE, scale.SERVICES),
    "beside": Topic(scale.measure_beside, scale.NOTE, scale.SERVICES),
    "many": Topic(many.measure, many.NOTE, many.SERVICES),
    "retention": Topic(retention.measure, retention.NOTE, retention.SERVICES),
    "finished": Topic(many.measure_finished, many.NOTE_FINISHED, many.SERVICES),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description="Measure on real servers.")
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"{', '.join(TOPICS)} (default: all)")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {figures.PAGE.name}")
    parser.add_argument("--machine", default=figures.machine(), help='the kind of machine, such as "2 cores, shared"')
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of comparisons side by side (default: %(default)s)"
    )
    given = parser.parse_args()
    if unknown := [topic for topic in given.topics if topic not in TOPICS]:
        parser.error(f"no topic {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    missed = False
    try:
        for topic in given.topics or TOPICS:
            print(f"{topic} …", flush=True)
            begun = time.monotonic()
            with stage(TOPICS[topic].services) as started:
                measured = TOPICS[topic].measure(started, given.rounds)
            print(figures.table(measured))
            print(f"  ({time.monotonic() - begun:.0f} s)\n", flush=True)
            missed = missed or any(figure.met is False for figure in measured)
            if given.write:
                figures.write(topic, measured, TOPICS[topic].note.format(rounds=_rounds(given.rounds)), given.machine)
    except (StartError, toolchain.MissingToolError, TimeoutError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if missed:
        print("A goal was missed.", file=sys.stderr)
    return 0


def _rounds(number: int) -> str:
    return "one round" if number == 1 else f"{number} rounds"


if __name__ == "__main__":
    sys.exit(main())
