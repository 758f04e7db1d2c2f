"""CustomResourceDefinitions, as documents and as text. Called by the package's ``generate``."""

from typing import Any

import yaml

from invocation_operator.api.v1alpha1.base import (
    CATEGORY,
    GROUP,
    SCHEMA_REVISION,
    SCHEMA_REVISION_ANNOTATION,
    VERSION,
    Column,
)
from invocation_operator.crdgen.kinds import Resource
from invocation_operator.crdgen.schema import Schema, object_schema, validations

HEADER = """\
# Generated from operator/invocation_operator/api/{version} by `make crds`. Do not edit.
"""

UNSEEN = {"observedGeneration": -1}
"""Status of an object that nobody has seen yet: by the kstatus convention it then never reads as done."""


def document(resource: Resource) -> Schema:
    """Return the CRD of one kind."""
    kind = resource.kind
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": _root(resource)},
    }
    if kind.status_subresource:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "annotations": {SCHEMA_REVISION_ANNOTATION: str(SCHEMA_REVISION)}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def text(resource: Resource) -> str:
    """Return the CRD of one kind as YAML, with a header that says how to make it again."""
    body = yaml.dump(document(resource), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return HEADER.format(version=VERSION) + body


def _root(resource: Resource) -> Schema:
    root: Schema = {
        "type": "object",
        "description": resource.kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": f"Version of the schema of this object: `{GROUP}/{VERSION}`.",
            },
            "kind": {"type": "string", "description": f"Kind of this object: `{resource.kind.kind}`."},
            "metadata": {"type": "object"},
            "spec": object_schema(resource.spec, with_defaults=True),
            "status": object_schema(resource.status) | {"default": UNSEEN},
        },
    }
    if resource.kind.rules:
        root["x-kubernetes-validations"] = validations(resource.kind.rules)
    return root


def _column(column: Column) -> Schema:
    shown: Schema = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }
    return shown | ({"priority": column.priority} if column.priority else {})


class _Dumper(yaml.SafeDumper):
    """Plain YAML without anchors; text of several lines (CEL rules) as blocks that people can read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _string)
