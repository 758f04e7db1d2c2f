"""The schemas hold what the API server and the people who read `kubectl explain` need."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from invocation_operator import crdgen
from invocation_operator.api.v1alpha1.base import SCHEMA_REVISION, ListType, Model, Nullable, Rule, StrictModel
from invocation_operator.crdgen.schema import INT_OR_STRING, UnsupportedTypeError, object_schema

DOCUMENTS = {name: yaml.safe_load(text) for name, text in crdgen.generate().items()}
Node = tuple[str, dict[str, Any]]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[Node]:
    """Every schema below and with its path; `[]` is an item of a list, `{}` a value of a map."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def root(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


ALL: list[tuple[str, str, dict[str, Any]]] = [
    (document["spec"]["names"]["kind"], path, schema)
    for document in DOCUMENTS.values()
    for path, schema in nodes(root(document))
    if path not in ("", ".metadata", ".apiVersion", ".kind")
]
FIELDS = [(kind, path, schema) for kind, path, schema in ALL if not path.endswith(("[]", "{}"))]


def test_schema_describes_every_field() -> None:
    assert [f"{kind}{path}" for kind, path, schema in FIELDS if len(schema.get("description", "")) < 4] == []


def test_schema_descriptions_end_like_sentences() -> None:
    assert [f"{kind}{path}" for kind, path, schema in FIELDS if not schema["description"].endswith((".", "`."))] == []


def test_schema_caps_every_string() -> None:
    assert [
        f"{kind}{path}"
        for kind, path, schema in ALL
        if schema.get("type") == "string" and not {"maxLength", "enum", "format"} & schema.keys()
    ] == []


def test_schema_caps_every_list_and_map() -> None:
    assert [f"{k}{path}" for k, path, schema in ALL if schema.get("type") == "array" and "maxItems" not in schema] == []
    assert [
        f"{k}{path}" for k, path, schema in ALL if "additionalProperties" in schema and "maxProperties" not in schema
    ] == []


def test_schema_lists_say_how_they_merge() -> None:
    for kind, path, schema in ALL:
        if schema.get("type") == "array":
            merge = schema.get("x-kubernetes-list-type")
            assert merge in ("set", "atomic", "map"), f"{kind}{path}"
            if merge == "map":
                key = schema["x-kubernetes-list-map-keys"][0]
                assert key in schema["items"]["required"], f"{kind}{path}"
            if path.endswith("anyOf"):
                assert merge == "atomic", f"{kind}{path}"


def test_schema_defaults_are_plain_fields_of_the_specification_and_the_unseen_status() -> None:
    found = {f"{kind}{path}": schema["default"] for kind, path, schema in ALL if "default" in schema}
    unseen = {key for key in found if key.endswith(".status")}
    assert len(unseen) == len(DOCUMENTS)
    assert all(found[key] == {"observedGeneration": -1} for key in unseen)
    for key in found.keys() - unseen:
        assert key.split(".")[1:-1] == ["spec"], key
        assert not isinstance(found[key], dict), key


def test_schema_has_no_construct_that_is_not_structural() -> None:
    for kind, path, schema in ALL:
        forbidden = schema.keys() & {"$ref", "anyOf", "oneOf", "allOf", "$defs", "title", "format-hint"}
        assert not forbidden, f"{kind}{path}"
        assert isinstance(schema.get("type"), str) is (INT_OR_STRING not in schema), f"{kind}{path}"


def test_schema_of_a_number_or_a_share_bounds_both() -> None:
    found = [schema for _, _, schema in ALL if INT_OR_STRING in schema]
    assert found
    for schema in found:
        assert schema[INT_OR_STRING] is True
        assert "minimum" in schema
        assert schema["pattern"].endswith("%$")


@pytest.mark.parametrize("kind", ["InvocationAction", "RestateEngine"])
def test_schema_of_what_people_write_keeps_unknown_fields_and_nulls(kind: str) -> None:
    for owner, path, schema in ALL:
        if owner == kind and path.startswith(".spec") and "properties" in schema:
            assert schema.get("x-kubernetes-preserve-unknown-fields") is True, path
            for name, field in schema["properties"].items():
                assert field.get("nullable", False) is (name not in schema.get("required", ())), f"{path}.{name}"


def test_schema_of_status_prunes_what_it_does_not_know() -> None:
    assert [
        f"{kind}{path}"
        for kind, path, schema in ALL
        if path.startswith(".status") and {"x-kubernetes-preserve-unknown-fields", "nullable"} & schema.keys()
    ] == []


def test_schema_rules_all_have_messages_for_people() -> None:
    for kind, path, schema in ALL:
        for rule in schema.get("x-kubernetes-validations", ()):
            assert len(rule["message"]) > 10, f"{kind}{path}: {rule['rule']}"


def test_crd_is_small_enough_for_client_side_apply() -> None:
    """Which keeps the whole of it in an annotation, and annotations hold 256 KiB."""
    for name, document in DOCUMENTS.items():
        assert len(json.dumps(document)) < 230_000, name


def test_crd_carries_the_revision_that_the_operator_asks_for() -> None:
    for document in DOCUMENTS.values():
        assert document["metadata"]["annotations"] == {"ops.restate.dev/schema-revision": str(SCHEMA_REVISION)}
        version = document["spec"]["versions"][0]
        assert version["subresources"] == {"status": {}}
        assert document["spec"]["scope"] == "Namespaced"
        assert document["spec"]["names"]["categories"] == ["restate"]


def test_schema_marks_and_bounds_of_inner_types_survive() -> None:
    class Part(Model):
        """A part."""

        names: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=3), Rule("self != 'no'", "not no")]] | None,
            Field(max_length=4),
            ListType("set"),
            Nullable(),
        ] = None
        """Names."""
        labels: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(max_length=2)]
        """Labels."""

    schema = object_schema(Part)
    assert schema["required"] == ["labels"]
    assert schema["properties"]["names"] == {
        "type": "array",
        "description": "Names.",
        "nullable": True,
        "maxItems": 4,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 3,
            "x-kubernetes-validations": [{"rule": "self != 'no'", "message": "not no"}],
        },
    }
    assert schema["properties"]["labels"]["maxProperties"] == 2
    assert schema["properties"]["labels"]["additionalProperties"] == {"type": "integer", "minimum": 1}


def test_schema_strict_object_refuses_nulls_and_shows_defaults_in_words() -> None:
    class Part(StrictModel):
        """A part."""

        count: int = 3
        """How many."""
        other: bool = False
        """Another. Default: never mind."""
        rules: ClassVar[tuple[Rule, ...]] = (Rule("true", "never"),)

    schema = object_schema(Part)
    assert [rule["message"] for rule in schema["x-kubernetes-validations"]] == [
        "a field is null: give it a value or leave it out",
        "never",
    ]
    assert schema["properties"]["count"]["description"] == "How many. Default: `3`."
    assert schema["properties"]["other"]["description"] == "Another. Default: never mind."
    assert "default" not in schema["properties"]["count"]
    assert object_schema(Part, with_defaults=True)["properties"]["count"]["default"] == 3


@pytest.mark.parametrize("annotation", [int | str, float, tuple[int, int], Any])
def test_schema_type_without_a_structural_schema_is_refused(annotation: Any) -> None:
    class Part(Model):
        """A part."""

        field: annotation

    with pytest.raises(UnsupportedTypeError):
        object_schema(Part)
