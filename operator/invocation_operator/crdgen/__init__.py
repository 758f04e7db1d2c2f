"""From the models to what is installed and read: ``crds/*.yaml`` and the API reference.

The models are the single source, the files are committed for people who install without Python, and ``check`` keeps
both the same. Nothing imports this package but the command line.
"""

from pathlib import Path

from invocation_operator.api.v1alpha1.base import GROUP
from invocation_operator.crdgen import crd
from invocation_operator.crdgen import reference as _reference
from invocation_operator.crdgen.kinds import RESOURCES

__all__ = ["check", "generate", "reference", "write"]


def generate() -> dict[str, str]:
    """Return the CRDs of all kinds as YAML by file name; the same models give the same text."""
    return {f"{GROUP}_{resource.kind.plural}.yaml": crd.text(resource) for resource in RESOURCES}


def reference() -> str:
    """Return the API reference as Markdown."""
    return _reference.text()


def write(directory: Path, reference_file: Path | None = None) -> None:
    """Write the CRDs into ``directory``, remove those of kinds that are gone, and write the reference if a file is
    given for it.
    """
    wanted = _wanted(directory, reference_file)
    for stale in _ours(directory) - wanted.keys():
        stale.unlink()
    for file, text in wanted.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def check(directory: Path, reference_file: Path | None = None) -> list[str]:
    """Return what differs between the files and the models, one sentence each; nothing when they are up to date."""
    wanted = _wanted(directory, reference_file)
    differences = [f"{file.name} is not generated from any model" for file in sorted(_ours(directory) - wanted.keys())]
    for file, text in wanted.items():
        if not file.is_file():
            differences.append(f"{file.name} is missing")
        elif file.read_text(encoding="utf-8") != text:
            differences.append(f"{file.name} is not what the models say")
    return differences


def _wanted(directory: Path, reference_file: Path | None) -> dict[Path, str]:
    wanted = {directory / name: text for name, text in generate().items()}
    return wanted if reference_file is None else wanted | {reference_file: reference()}


def _ours(directory: Path) -> set[Path]:
    return set(directory.glob(f"{GROUP}_*.yaml"))
