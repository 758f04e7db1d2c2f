"""Guards of the house: rules that are easy to break without noticing and expensive to mend."""

import ast
import operator
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "operator" / "invocation_operator"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 450
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """Files under version control; without a repository (a source archive) all that are not hidden."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        found = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not any(p.startswith(".") for p in path.relative_to(ROOT).parts)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def imports(path: Path) -> set[str]:
    """Top-level names of what a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def test_house_directory_operator_is_no_package() -> None:
    """It would hide Python's own module of that name from whoever has the checkout on the path."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_house_operator_is_pythons_own() -> None:
    assert operator.itemgetter(1)("ab") == "b"
    code = "import operator; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).is_relative_to(ROOT / "operator")


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_house_module_says_why_it_exists_and_is_not_too_long(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module docstring"
    assert len(text.splitlines()) <= LONGEST


def test_house_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base_utils"}
    sources = [path for path in tracked() if path.suffix == ".py"]
    assert [name_of(path) for path in sources if vague & {path.stem, *path.stem.split("_"), path.parent.name}] == []


def test_house_every_package_is_one() -> None:
    """A directory without ``__init__.py`` is left out of the wheel by some tools and not by others."""
    assert [name_of(path.parent) for path in MODULES if not (path.parent / "__init__.py").exists()] == []


def test_house_kopf_is_known_to_the_handlers_and_the_composition_root_only() -> None:
    users = {path.relative_to(PACKAGE).parts[0] for path in MODULES if "kopf" in imports(path)}
    assert users == {"handlers", "app.py"}


def test_house_kubernetes_is_known_to_cluster_and_the_composition_root_only() -> None:
    users = {path.relative_to(PACKAGE).parts[0] for path in MODULES if "kubernetes" in imports(path)}
    assert users == {"cluster", "app.py"}


def test_house_tests_and_rig_are_not_imported_by_the_operator() -> None:
    assert [name_of(path) for path in MODULES if imports(path) & {"tests", "e2e", "pytest", "hypothesis"}] == []


def requirement(text: str) -> str:
    """The normalised name at the beginning of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", text)
    assert found is not None, text
    return re.sub(r"[-_.]+", "-", found.group()).lower()


@pytest.mark.parametrize(("file", "hashed"), [("operator.txt", True), ("build.txt", True), ("dev.txt", False)])
def test_house_requirements_are_pinned_and_without_addresses(file: str, hashed: bool) -> None:
    """What is built into the image is pinned by content too."""
    text = (ROOT / "requirements" / file).read_text()
    assert "://" not in text
    hashes = re.compile(r"( \\\n    --hash=sha256:[0-9a-f]{64})+$", re.MULTILINE)
    bare = hashes.sub("", text)
    assert not re.search(r"^\s*-", bare, re.MULTILINE), "no options: whoever installs chooses the index"
    pins = [line for line in bare.splitlines() if line and not line.lstrip().startswith("#")]
    assert pins
    assert len(hashes.findall(text)) == (len(pins) if hashed else 0)
    for line in pins:
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[0-9][0-9A-Za-z.+!-]*( ; .+)?", line), line


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("operator.txt", PROJECT["project"]["dependencies"]),
        ("dev.txt", PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_house_requirements_name_what_the_project_asks_for(file: str, wanted: list[str]) -> None:
    current, direct = "", set()
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if line.lstrip().startswith("--hash"):
            continue
        if not line.lstrip().startswith("#"):
            current = requirement(line)
        elif "(pyproject.toml" in line:
            direct.add(current)
    assert direct == {requirement(one) for one in wanted}, "run `make lock`"


def test_house_test_files_have_names_of_their_own() -> None:
    """Directories of tests are no packages: two files of one name cannot be collected in one run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_house_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_house_license_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_house_no_file_names_a_place_on_somebodys_machine() -> None:
    """Absolute paths of whoever wrote it work nowhere else."""
    private = re.compile(rb"(?<![\w.:/-])/(?:home|root|Users|work|workspace)/[A-Za-z0-9_.-]+")
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content and path != Path(__file__).resolve() and (match := private.search(content)):
            found[name_of(path)] = match.group()
    assert found == {}
