"""From the models to what is installed and read: ``crds/*.yaml`` and the API reference.

The models are the single source, the files are committed for people who install without Python, and ``check`` keeps
both the same. Nothing imports this package but the command line.
"""

from pathlib import Path

from invocation_operator.api.v1alpha1.base import GROUP
from invocation_operator.crdgen import crd
from invocation_operator.crdgen.kinds import RESOURCES

__all__ = ["check", "generate", "write"]


def generate() -> dict[str, str]:
    """Return the CRDs of all kinds as YAML by file name; the same models give the same text."""
    return {f"{GROUP}_{resource.kind.plural}.yaml": crd.text(resource) for resource in RESOURCES}


def write(directory: Path) -> None:
    """Write the CRDs into ``directory`` and remove those of kinds that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = generate()
    for stale in _ours(directory) - wanted.keys():
        (directory / stale).unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")


def check(directory: Path) -> list[str]:
    """Return what differs between ``directory`` and the models, one sentence each; nothing when it is up to date."""
    wanted = generate()
    differences = [f"{name} is not generated from any model" for name in sorted(_ours(directory) - wanted.keys())]
    for name, text in wanted.items():
        file = directory / name
        if not file.is_file():
            differences.append(f"{name} is missing")
        elif file.read_text(encoding="utf-8") != text:
            differences.append(f"{name} is not what the models say")
    return differences


def _ours(directory: Path) -> set[str]:
    return {file.name for file in directory.glob(f"{GROUP}_*.yaml")}
