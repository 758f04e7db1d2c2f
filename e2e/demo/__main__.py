"""`python -m e2e.demo`: sets everything up, plays the story, checks it, and leaves nothing running.

With `CLUSTER=current` it plays in the cluster of the current kubeconfig (which must hold neither its namespaces nor a
running operator), with `KUBEBUILDER_ASSETS` it starts those binaries.
"""

import argparse
import sys
import time

from e2e.demo.screen import Screen
from e2e.demo.stage import DemoError, Stage, on_sigterm
from e2e.demo.story import Story
from e2e.rig import StartError, toolchain


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description="The story on a real cluster and engine.")
    parser.add_argument("--pace", type=float, default=1.0, metavar="N", help="scales the pauses for reading (0: none)")
    screen = Screen(pace=max(parser.parse_args().pace, 0.0))
    on_sigterm()
    begun = time.monotonic()
    screen.banner(
        "Restate Invocation Operator: the demo",
        "A real control plane, a real Restate engine, a small shop and the operator, all started now on loopback and "
        "all ended with this program. Takes about two minutes.",
    )
    stage: Stage | None = None
    try:
        with Stage(screen) as stage:
            ready = time.monotonic()
            try:
                Story(stage).play()
            except (DemoError, RuntimeError, OSError) as error:
                return _failed(screen, error, stage.logs())
        screen.summary(time.monotonic() - ready)
        screen.say(f"Set-up took {ready - begun:.0f} s; everything that was started has ended.")
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has ended.", file=sys.stderr)
        return 130
    except (DemoError, StartError, toolchain.MissingToolError, RuntimeError) as error:
        return _failed(screen, error, "")
    return 0


def _failed(screen: Screen, error: BaseException, logs: str) -> int:
    screen.failed(str(error))
    if logs:
        print(f"\nThe operator's last lines:\n{logs}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
