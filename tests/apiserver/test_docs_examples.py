"""Every manifest that people are shown is one that a real API server takes, or refuses where the page says so."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.rig import ControlPlane
from e2e.rig.toolchain import ROOT

EXAMPLES = sorted(p for p in (ROOT / "docs" / "examples").rglob("*.yaml") if "resource_customizations" not in p.parts)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFUSED = "# Refused by the API server:"
ELSEWHERE = ("argoproj.io", "kustomize.toolkit.fluxcd.io", "restate.dev")
"""Groups of other operators' kinds, which are not served here."""
PATHS = {
    "ConfigMap": "/api/v1/namespaces/default/configmaps",
    "InvocationAction": "/apis/ops.restate.dev/v1alpha1/namespaces/default/invocationactions",
    "RestateEngine": "/apis/ops.restate.dev/v1alpha1/namespaces/default/restateengines",
    "RetentionPolicy": "/apis/ops.restate.dev/v1alpha1/namespaces/default/retentionpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
    "Secret": "/api/v1/namespaces/default/secrets",
}


def fenced(page: Path) -> list[str]:
    """The page's manifests; values of the chart are tried with the chart."""
    found = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for text in found if not text.startswith("# values.yaml\n")]


def blocks() -> list[Any]:
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}#{number}")
        for page in PAGES
        for number, text in enumerate(fenced(page), 1)
    ]


def problems(control_plane: ControlPlane, text: str) -> list[str]:
    """What the API server says against the documents of a manifest; nothing is kept."""
    said = []
    for manifest in yaml.safe_load_all(text):
        if manifest["apiVersion"].partition("/")[0] in ELSEWHERE:
            continue
        # Elsewhere than where the manifest says, so that no namespace must be there.
        manifest["metadata"] |= {"namespace": "default"}
        path = PATHS[manifest["kind"]] + "?dryRun=All&fieldValidation=Strict"
        reply = control_plane.request("POST", path, manifest)
        if reply.status != 201:
            said.append(reply.expect(400, 422).json()["message"])
    return said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT / "docs" / "examples")))
def test_example_offered_to_the_api_server_is_taken_or_refused_as_it_says(
    control_plane: ControlPlane, path: Path
) -> None:
    text = path.read_text()
    said = problems(control_plane, text)
    if text.startswith(REFUSED):
        assert said
    else:
        assert not said


@pytest.mark.parametrize("text", blocks())
def test_page_with_a_manifest_offered_to_the_api_server_is_taken(control_plane: ControlPlane, text: str) -> None:
    assert not problems(control_plane, text)


def test_pages_have_manifests() -> None:
    assert len(blocks()) > 10
