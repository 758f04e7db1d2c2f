"""The documentation keeps up with the code: reasons, metrics, options, examples and links."""

import re
from pathlib import Path

import pytest

from e2e.bench.__main__ import TOPICS
from invocation_operator.cli import _parser
from invocation_operator.observe import retention as _retention  # noqa: F401 - its metrics
from invocation_operator.observe.metrics import REGISTRY

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "operator" / "invocation_operator"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

NO_REASONS = {
    # Event types, kinds, condition types, header and option values, deletion policies.
    *("Normal", "Warning", "Event", "ConfigMap", "InvocationAction", "InvocationRecord", "RestateEngine", "Accept"),
    *("Lease", "UrlPattern"),
    *(
        "BearerToken",
        "Background",
        "Keep",
        "Latest",
        "DryRun",
        "WhenUnchanged",
        "Unknown",
        "True",
        "AlreadyExists",
        "Throttled",
    ),
    # A type of service.
    "Workflow",
    # Units.
    *("KiB", "MiB", "GiB", "TiB"),
    # Tools that own objects.
    *("Helm", "Flux"),
    # Types named in annotations before they exist.
    *("Lane", "Bell", "Ledger", "Record", "Timing", "Hold"),
    # Ends of a run in this process; nobody else sees them.
    *("OperatorStopping", "HoldLost"),
}


def words(*rooms: str) -> set[str]:
    """CamelCase words that stand as whole strings in the code of these rooms."""
    found: set[str] = set()
    for room in rooms:
        for path in (PACKAGE / room).rglob("*.py"):
            found.update(re.findall(r'"([A-Z][a-z]+[A-Za-z]*)"', path.read_text()))
    return found


def test_reference_of_reasons_names_every_reason_in_the_code() -> None:
    page = (DOCS / "reference" / "conditions-and-reasons.md").read_text()
    told = set(re.findall(r"`([A-Za-z]+)`", page))
    assert words("reconcile", "plan", "cluster") - NO_REASONS - told == set()


def test_reference_of_metrics_names_every_metric_with_its_labels() -> None:
    page = (DOCS / "reference" / "metrics.md").read_text()
    for metric in REGISTRY.collect():
        if metric.name.startswith("process_"):
            continue
        name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
        labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, f"{name} is missing"
        assert all(f"`{label}`" in row for label in labels), row


def test_reference_of_metrics_names_no_metric_that_is_not_there() -> None:
    page = (DOCS / "reference" / "metrics.md").read_text()
    known = {metric.name for metric in REGISTRY.collect()}
    told = set(re.findall(r"^\| `(invocation_operator_\w+?)(?:_total|_info)?` \|", page, re.MULTILINE))
    assert told <= known


def test_reference_of_the_command_line_names_every_option_and_no_other() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    commands = next(a.choices for a in _parser()._actions if a.dest == "command")
    assert isinstance(commands, dict)
    options = {o for a in commands["run"]._actions for o in a.option_strings if o.startswith("--")} - {"--help"}
    told = set(re.findall(r"^\| `(--[a-z-]+)", page, re.MULTILINE))
    assert told == options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_that_shows_an_example_shows_the_file_as_it_is(page: Path) -> None:
    shown = re.findall(r"^```yaml\n# (docs/examples/\S+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for name, text in shown:
        assert text == (ROOT / name).read_text(), f"{page.name} shows {name} otherwise than it is"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_with_links_leads_to_what_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", page.read_text()):
        path, anchor = target
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {path}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{linked.name} has no heading #{anchor}"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_performance_page_has_a_place_for_every_topic_of_the_bench() -> None:
    page = (DOCS / "explanation" / "performance.md").read_text()
    assert set(re.findall(r"^<!-- figures:(\S+) -->$", page, re.MULTILINE)) == set(TOPICS)
