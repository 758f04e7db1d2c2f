"""`python -m e2e.rig tools|helm|judges|oldest|image|up|down|status`, the other half of the Makefile."""

import argparse
import sys

from e2e.rig import NEWEST, OLDEST, StartError, image, toolchain
from e2e.rig.standing import Standing, alone, up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.rig", description=__doc__)
    parser.add_argument(
        "what",
        choices=["tools", "helm", "judges", "oldest", "image", "up", "down", "status"],
        help="tools: build or install the servers; helm: build Helm, which only the chart's tests need; "
        "judges: build what judges our objects as Flux and Argo CD do; "
        "oldest: build the oldest supported Kubernetes, and say where it is; image: build the operator's image; "
        "up: start the servers and leave them running; down: stop exactly those",
    )
    what = parser.parse_args().what
    try:
        if what == "tools":
            toolchain.control_plane()
            for version in (NEWEST, OLDEST):
                toolchain.engine(version)
            toolchain.kubectl()
        elif what == "helm":
            toolchain.helm()
        elif what == "judges":
            toolchain.judges()
        elif what == "oldest":
            print(toolchain.built_control_plane(toolchain.OLDEST_KUBERNETES))
        elif what == "image":
            image.main()
        elif what == "status":
            standing = Standing()
            print("\n".join(standing.lines()) if standing.processes else "nothing is up")
            return 0 if standing.whole else 1
        elif what == "up":
            with alone():
                print("\n".join(up().lines()))
        else:
            with alone():
                stopped = Standing().stop()
            print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was up")
    except (toolchain.MissingToolError, StartError, RuntimeError) as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
