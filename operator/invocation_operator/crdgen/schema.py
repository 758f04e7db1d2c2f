"""A model becomes a structural OpenAPI schema: everything inline, no ``$ref``, no ``anyOf``, one type per field
(or ``x-kubernetes-int-or-string``).

Called by ``crd``. The walk is over the Python types rather than over pydantic's JSON schema, because that one says
``anyOf [..., null]`` for every optional field, refers instead of inlining, and loses the markers on inner types.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import MaxLen, MinLen
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from invocation_operator.api.v1alpha1.base import IntOrString, ListType, MapType, Model, Nullable, OmitDefault, Rule
from invocation_operator.crdgen.docstrings import field_docstrings

Schema = dict[str, Any]

NULL_MESSAGE = "is null: give it a value or leave it out"

INT_OR_STRING = "x-kubernetes-int-or-string"
"""In the place of a type."""

_SCALAR_KEYS = ("type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_SCALARS = (str, int, bool, datetime)


class UnsupportedTypeError(TypeError):
    """A field's type has no structural schema."""


def object_schema(model: type[Model], *, with_defaults: bool = False) -> Schema:
    """Return the schema of ``model``.

    ``with_defaults`` writes the defaults of plain fields of this object (not of what lies below) into the schema, so
    that the API server fills them in.
    """
    properties = {
        field_name(name, field): _field_schema(model, name, field, with_default=with_defaults)
        for name, field in model.model_fields.items()
    }
    schema: Schema = {"type": "object", "description": paragraph(model.__doc__), "properties": properties}
    if model.min_properties:
        schema["minProperties"] = model.min_properties
    required = [field_name(name, field) for name, field in model.model_fields.items() if field.is_required()]
    if required:
        schema["required"] = required
    if model.preserve_unknown:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    rules = [*null_rules(model), *model.rules]
    if rules:
        schema["x-kubernetes-validations"] = validations(rules)
    return schema


def field_name(name: str, field: FieldInfo) -> str:
    """Return the name that a manifest uses."""
    return field.alias or name


def paragraph(text: str | None) -> str:
    """Return a docstring as one paragraph: ``kubectl explain`` wraps by itself."""
    return " ".join((text or "").split())


def nullable_fields(model: type[Model]) -> list[str]:
    """Return the fields whose explicit ``null`` is kept: all optional ones of an object that is strict, and those that
    are marked.
    """
    return [
        field_name(name, field)
        for name, field in model.model_fields.items()
        if not field.is_required() and (model.preserve_unknown or has_marker(field.metadata, Nullable))
    ]


def null_rules(model: type[Model]) -> list[Rule]:
    """Return the rule that refuses explicit nulls, naming the fields that are null.

    ``has()`` calls a null absent, and an object with a schema has no ``in``. Seen as ``dyn`` it is a map whose keys can
    be walked, those with a null among them, while ``in`` still finds only what has a value. Fields that the schema does
    not know appear there as keys without a type; they are for the operator to refuse.
    """
    if not nullable_fields(model):
        return []
    # Names that are words of CEL are walked in their escaped form (``__namespace__``).
    given = "type(name) != string || name in dyn(self)"
    return [
        Rule(
            f"dyn(self).all(name, {given})",
            message=f"a field {NULL_MESSAGE}",
            message_expression=f"dyn(self).filter(name, !({given})).join(', ').replace('__', '') + ' {NULL_MESSAGE}'",
        )
    ]


def validations(rules: Iterable[Rule]) -> list[Schema]:
    """Return ``x-kubernetes-validations``."""
    return [_validation(rule) for rule in rules]


def has_marker(metadata: Iterable[Any], marker: type) -> bool:
    """Whether a marker of that class is among ``metadata``."""
    return any(isinstance(entry, marker) for entry in metadata)


def documentation(model: type[Model], name: str, field: FieldInfo) -> str:
    """Return what a field says of itself, as one paragraph."""
    return paragraph(field.description or field_docstrings(model).get(name))


def default_of(field: FieldInfo) -> Any:
    """Return a field's default when a person would want to know it, else None: plain values only."""
    if field.is_required() or field.default is None or isinstance(field.default, Model):
        return None
    return field.default.value if isinstance(field.default, Enum) else field.default


def _field_schema(model: type[Model], name: str, field: FieldInfo, *, with_default: bool) -> Schema:
    schema = _type_schema(field.annotation, list(field.metadata))
    description = " ".join(part for part in (_description(model, name, field), _values(schema)) if part)
    typed = "type" if "type" in schema else INT_OR_STRING
    described: Schema = {typed: schema.pop(typed), "description": description}
    if field_name(name, field) in nullable_fields(model):
        described["nullable"] = True
    default = default_of(field)
    if with_default and default is not None and not has_marker(field.metadata, OmitDefault):
        described["default"] = default
    return described | {key: value for key, value in schema.items() if key != "description"}


def _description(model: type[Model], name: str, field: FieldInfo) -> str:
    """Return a field's docstring, with its default where a person can set it: ``kubectl explain`` shows no defaults."""
    text = documentation(model, name, field)
    default = default_of(field)
    if default is None or not model.preserve_unknown or "default" in text.lower():
        return text
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"{text} Default: `{shown}`."


def _values(schema: Schema) -> str:
    """Return the possible values of a list's items, which ``kubectl explain`` shows for plain fields only."""
    values = schema.get("items", {}).get("enum", ())
    return f"Values: {', '.join(f'`{value}`' for value in values)}." if values else ""


def _type_schema(annotation: Any, metadata: list[Any]) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_schema(arguments[0], [*_flat(arguments[1:]), *metadata])
    either = next((entry for entry in metadata if isinstance(entry, IntOrString)), None)
    if either is not None:
        return {INT_OR_STRING: True, "minimum": either.minimum, "pattern": either.pattern}
    if origin in (Union, UnionType):
        inner = [argument for argument in arguments if argument is not NoneType]
        if len(inner) != 1:
            raise UnsupportedTypeError(f"{annotation}: only a union with None has a structural schema")
        return _type_schema(inner[0], metadata)
    if origin is list:
        return {"type": "array", **_bounds(metadata, "Items"), **_list_type(metadata), "items": _item(arguments[0])}
    if origin is dict:
        return {
            "type": "object",
            **_bounds(metadata, "Properties"),
            **_map_type(metadata),
            "additionalProperties": _item(arguments[1]),
        }
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return object_schema(annotation)
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, (*_SCALARS, Enum))):
        return _scalar(annotation, metadata)
    raise UnsupportedTypeError(f"{annotation} has no structural schema")


def _item(annotation: Any) -> Schema:
    return _type_schema(annotation, [])


def _scalar(annotation: Any, metadata: list[Any]) -> Schema:
    plain: Any = Annotated[annotation, *metadata] if metadata else annotation
    generated = TypeAdapter(plain).json_schema()
    schema = {key: generated[key] for key in _SCALAR_KEYS if key in generated}
    rules = [entry for entry in metadata if isinstance(entry, Rule)]
    return schema | ({"x-kubernetes-validations": validations(rules)} if rules else {})


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Return metadata of an inner type in the form that pydantic gives a field's: without ``Field`` around it."""
    flat: list[Any] = []
    for entry in metadata:
        flat.extend(entry.metadata if isinstance(entry, FieldInfo) else [entry])
    return flat


def _bounds(metadata: Iterable[Any], what: str) -> Schema:
    bounds: Schema = {}
    for entry in metadata:
        if isinstance(entry, MinLen):
            bounds[f"min{what}"] = entry.min_length
        elif isinstance(entry, MaxLen):
            bounds[f"max{what}"] = entry.max_length
    return bounds


def _list_type(metadata: Iterable[Any]) -> Schema:
    for entry in metadata:
        if isinstance(entry, ListType):
            keys = {"x-kubernetes-list-map-keys": [entry.key]} if entry.type == "map" else {}
            return {"x-kubernetes-list-type": entry.type, **keys}
    return {}


def _map_type(metadata: Iterable[Any]) -> Schema:
    return next(({"x-kubernetes-map-type": entry.type} for entry in metadata if isinstance(entry, MapType)), {})


def _validation(rule: Rule) -> Schema:
    optional = {
        "message": rule.message,
        "messageExpression": rule.message_expression,
        "fieldPath": rule.field_path,
        "reason": rule.reason,
        "optionalOldSelf": rule.optional_old_self,
    }
    return {"rule": rule.rule, **{key: value for key, value in optional.items() if value}}
