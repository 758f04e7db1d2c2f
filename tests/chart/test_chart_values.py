"""Values that are wrong are refused, in words that name them; values that are right are documented."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from e2e.rig.helm import CHART, Helm, HelmError
from e2e.rig.toolchain import ROOT

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

OPEN = {
    *("resources", "affinity", "podLabels", "podAnnotations", "nodeSelector", "serviceAccount.annotations"),
    *("defaultEngine", "metrics.serviceMonitor.labels"),
}
"""Objects whose keys are Kubernetes' or the user's, documented as a whole."""


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in OPEN:
            yield from leaves(value, f"{path}.")
        else:
            yield path


@pytest.mark.parametrize(
    ("values", "word"),
    [
        pytest.param({"watchNamespace": ["shop"]}, "watchNamespace", id="typo at the top"),
        pytest.param({"crds": {"enable": False}}, "enable", id="typo below"),
        pytest.param({"image": {"tags": "1"}}, "tags", id="typo in image"),
        pytest.param({"resources": {"limit": {}}}, "limit", id="typo in resources"),
        pytest.param({"replicas": 2, "leaderElection": {"enabled": False}}, "replicas", id="two without an election"),
        pytest.param({"leaderElection": {"leaseSeconds": 1}}, "/leaderElection/leaseSeconds", id="lease of a moment"),
        pytest.param({"scope": "Cluster"}, "/scope", id="other case"),
        pytest.param({"watchNamespaces": "shop"}, "/watchNamespaces", id="text for a list"),
        pytest.param({"scope": "namespaces", "watchNamespaces": ["Shop"]}, "/watchNamespaces/0", id="no such name"),
        pytest.param({"scope": "namespaces"}, "list the namespaces to serve", id="namespaces without any"),
        pytest.param({"watchNamespaces": ["shop"]}, "scope=namespaces", id="namespaces that would mean nothing"),
        pytest.param({"ports": {"health": 80}}, "/ports/health", id="privileged port"),
        pytest.param({"ports": {"health": 9090}}, "must differ", id="one port for two"),
        pytest.param(
            {"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}},
            "needs metrics.service.enabled",
            id="monitor without a service",
        ),
        pytest.param({"allowedEngineUrls": ["engine.example"]}, "/allowedEngineUrls/0", id="URL without a scheme"),
        pytest.param({"extraEnv": [{"name": "A", "vlaue": "b"}]}, "vlaue", id="typo in a variable"),
        pytest.param({"networkPolicy": {"engines": {"ports": []}}}, "/networkPolicy/engines/ports", id="no way out"),
        pytest.param({"logging": {"level": "trace"}}, "/logging/level", id="unknown level"),
        pytest.param({"image": {"digest": "sha256:12"}}, "/image/digest", id="half a digest"),
        pytest.param({"serviceAccount": {"create": False}}, "serviceAccount.name", id="account without a name"),
        pytest.param({"podLabels": {"a": 1}}, "/podLabels/a", id="number as a label"),
        pytest.param({"clusterDomain": "cluster.local."}, "/clusterDomain", id="domain with a final dot"),
    ],
)
def test_values_wrong_are_refused_by_name(helm: Helm, values: Mapping[str, Any], word: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values)
    assert word in str(refused.value)


def test_values_of_a_parent_chart_are_let_through(helm: Helm) -> None:
    assert helm.template({"global": {"imageRegistry": "registry.example"}})


def test_values_schema_knows_exactly_the_values() -> None:
    def known(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, below in schema["properties"].items():
            path = f"{prefix}{key}"
            if "properties" in below and path not in OPEN:
                yield from known(below, f"{path}.")
            else:
                yield path

    assert set(known(SCHEMA)) - {"global"} == set(leaves(VALUES))


def test_values_schema_is_strict_at_every_level() -> None:
    def loose(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for key, below in schema.get("properties", {}).items():
            yield from loose(below, f"{path}.{key}")

    assert list(loose(SCHEMA, "values")) == []


def test_values_are_documented_with_their_defaults() -> None:
    rows = {}
    for line in (CHART / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 3:
            rows[cells[0].strip("`")] = json.loads(cells[1].strip("`"))
    expected = {}
    for path in leaves(VALUES):
        value: Any = VALUES
        for key in path.split("."):
            value = value[key]
        expected[path] = value
    assert rows == expected


def test_values_that_the_documentation_shows_are_taken(helm: Helm) -> None:
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    shown = re.findall(r"^```yaml\n# values.yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(shown) >= 3
    for text in shown:
        assert helm.template(yaml.safe_load(text)), text
