"""The command ``invocation-operator``: ``run``, ``withdraw``, ``crds`` and ``version``.

A bad option or an API server that cannot be reached gives one line that says what to do, and exit code 2 or 1.
"""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from invocation_operator import __version__


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit code."""
    sys.exit(_dispatch(_parser().parse_args(argv)))


class _Parser(argparse.ArgumentParser):
    """Complains in one line, and takes no shortened options: they would change meaning with every new option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="invocation-operator", description="Durable invocations of Restate as GitOps resources.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the operator",
        description="Run the operator. Every option can be set as INVOCATION_OPERATOR_<OPTION> in the environment.",
        argument_default=argparse.SUPPRESS,
    )
    run.add_argument(
        "--namespace", dest="namespaces", action="append", metavar="NAME", help="watch only this one; repeatable"
    )
    run.add_argument("--operator-namespace", metavar="NAME", help="where records are kept (default: the Pod's own)")
    run.add_argument("--kubeconfig", metavar="FILE", help="default: the Pod's service account, KUBECONFIG")
    run.add_argument("--cluster-domain", metavar="DOMAIN", help="DNS domain of the cluster (cluster.local)")
    run.add_argument(
        "--trusted-engine-namespace",
        dest="trusted_engine_namespaces",
        action="append",
        metavar="NAME",
        help="only engines of these namespaces may be used from others; repeatable",
    )
    run.add_argument(
        "--allowed-engine-url",
        dest="allowed_engine_urls",
        action="append",
        metavar="PATTERN",
        help="engines may only be there, as in https://*.example.com:9070; repeatable",
    )
    run.add_argument("--metrics-port", metavar="PORT", help="port of /metrics (9090; 0: none)")
    run.add_argument("--health-port", metavar="PORT", help="port of /healthz and /readyz (8081; 0: none)")
    run.add_argument("--bind-address", metavar="ADDRESS", help="address of metrics and health (0.0.0.0)")
    run.add_argument("--log-format", metavar="json|console", help="default: console on a terminal, else json")
    run.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (info)")
    run.add_argument("--shutdown-seconds", metavar="SECONDS", help="time to hand over at the end (20)")
    run.add_argument("--leader-elect", metavar="true|false", help="stand by while another operator leads (false)")
    run.add_argument("--lease-name", metavar="NAME", help="Lease of those who stand in for each other")
    run.add_argument("--lease-seconds", metavar="SECONDS", help="silence before another operator takes over (10)")
    run.add_argument("--call-timeout-seconds", metavar="SECONDS", help="longest call on one invocation (10)")
    run.add_argument("--batch-endpoints", metavar="true|false", help="use the engine's internal batch endpoints (true)")
    run.add_argument("--record-retention-days", metavar="DAYS", help="how long records are kept (400; 0: for ever)")
    run.add_argument(
        "--requester-annotation-trusted",
        metavar="true|false",
        help="admission policies vouch for who asked and who approved (false)",
    )
    commands.add_parser(
        "withdraw",
        help="let go of what only the operator could, before it is uninstalled",
        description="Take the operator's finalizers off, and keep every operator of this release from putting them on "
        "again. Options are those of `run`, from the environment.",
    )
    crds = commands.add_parser("crds", help="print, write or check the CRDs")
    where = crds.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="DIR", help="write them as files")
    where.add_argument("--check", type=Path, metavar="DIR", help="fail when the files differ from the models")
    crds.add_argument("--reference", type=Path, metavar="FILE", help="write or check the API reference too")
    commands.add_parser("version", help="print the version")
    return parser


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "run":
            chosen = vars(options)
            chosen.pop("command")
            return _run(chosen)
        case "withdraw":
            return _run({}, withdrawing=True)
        case "crds":
            return _crds(options.write, options.check, options.reference)
        case _:
            print(__version__)
            return 0


def _spare_the_collector() -> None:
    """What is imported stays: the cyclic collector need not look at it again and again, nor after every few hundred
    objects. A bulk run makes tens of thousands, hardly any of them in a cycle, and a third of its time went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _run(chosen: dict[str, Any], *, withdrawing: bool = False) -> int:
    # Imported here: `crds` and `version` must not pay for the operator's libraries. Nothing of them is garbage.
    gc.disable()
    try:
        from invocation_operator.app import run, withdraw
        from invocation_operator.cluster.errors import ClusterError
        from invocation_operator.observe import logs
        from invocation_operator.settings import LogFormat, Settings
    finally:
        gc.enable()

    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            print(f"invocation-operator: {_complaint(problem, chosen)}", file=sys.stderr)
        return 2
    json = settings.log_format is LogFormat.JSON if settings.log_format else not sys.stderr.isatty()
    logs.configure(json=json, level=settings.log_level.value)
    log = structlog.get_logger("invocation_operator")
    _spare_the_collector()
    try:
        asyncio.run(withdraw(settings) if withdrawing else run(settings))
    except (ClusterError, OSError) as error:
        if json:
            log.critical("ended by an error", error=str(error))
        else:
            print(f"invocation-operator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("ended by a mistake in the operator")
        return 1
    return 0


def _complaint(problem: ErrorDetails, chosen: dict[str, Any]) -> str:
    """Say which option or variable is wrong, why, and what it was."""
    from invocation_operator.settings import ENV_PREFIX

    field = str(problem["loc"][0]) if problem["loc"] else "options"
    if field in chosen:
        singular = {
            "namespaces": "namespace",
            "trusted_engine_namespaces": "trusted-engine-namespace",
            "allowed_engine_urls": "allowed-engine-url",
        }
        name = "--" + singular.get(field, field).replace("_", "-")
    else:
        name = ENV_PREFIX + field.upper()
    why = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {why} (got {repr(problem['input'])[:100]})"


def _crds(write: Path | None, check: Path | None, reference: Path | None) -> int:
    from invocation_operator import crdgen

    if write is not None:
        try:
            crdgen.write(write, reference)
        except OSError as error:
            print(f"invocation-operator: --write: {error}", file=sys.stderr)
            return 1
        return 0
    if check is not None:
        differences = crdgen.check(check, reference)
        for difference in differences:
            print(f"invocation-operator: {check}: {difference}; run `make crds`", file=sys.stderr)
        return 1 if differences else 0
    print("---\n".join(crdgen.generate().values()), end="")
    return 0
