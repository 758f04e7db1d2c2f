"""The API reference: one table for each object of each kind, from the same models as the CRDs.

Objects that several kinds or fields share are described once, where they first appear, and linked from elsewhere.
Called by the package's ``reference``.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from invocation_operator.api.v1alpha1.base import API_VERSION, CATEGORY, DURATION_RULE, Model, Rule
from invocation_operator.crdgen.kinds import RESOURCES, Resource
from invocation_operator.crdgen.schema import (
    INT_OR_STRING,
    Schema,
    default_of,
    documentation,
    field_name,
    object_schema,
    paragraph,
)

_INTRODUCTION = f"""\
<!-- Generated from operator/invocation_operator/api/v1alpha1 by `make crds`. Do not edit. -->

# API reference

`{API_VERSION}`, all kinds namespaced, category `{CATEGORY}`. `kubectl explain` shows the same descriptions.

Durations are written `30s`, `15m`, `1d12h` or `PT15M`, without a sign, months or years; times as in RFC 3339. In what
people write, an explicit `null` is refused at admission, and a field that this version does not know by the operator.
"""


def text() -> str:
    """Return the reference as Markdown."""
    described: set[type[Model]] = set()
    return "\n".join([_INTRODUCTION, *(part for resource in RESOURCES for part in _kind(resource, described))])


def _kind(resource: Resource, described: set[type[Model]]) -> Iterator[str]:
    kind = resource.kind
    yield f"## {kind.kind}\n"
    yield f"{kind.description} Short name `{', '.join(kind.short_names)}`.\n"
    yield from _rules(kind.rules)
    for title, model in (("spec", resource.spec), ("status", resource.status)):
        yield f"### {kind.kind} {title}\n"
        yield from _object(model)
    for model in [*_below(resource.spec), *_below(resource.status)]:
        if model not in described:
            described.add(model)
            yield f"### {model.__name__}\n"
            yield from _object(model)


def _below(model: type[Model]) -> Iterator[type[Model]]:
    """Every object that is part of ``model``, outer ones first."""
    for field in model.model_fields.values():
        inner = _model_of(field.annotation)
        if inner is not None:
            base = _shared_base(inner)
            yield inner
            if base is not None:
                yield base
            yield from _below(inner)


def _model_of(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def _shared_base(model: type[Model]) -> type[Model] | None:
    """The object that ``model`` adds fields to, if there is one."""
    base = model.__bases__[0]
    return base if issubclass(base, Model) and base.model_fields else None


def _object(model: type[Model]) -> Iterator[str]:
    base = _shared_base(model)
    own = {name: field for name, field in model.model_fields.items() if base is None or name not in base.model_fields}
    yield f"{_cell(paragraph(model.__doc__))}\n"
    if base is not None:
        yield f"Every field of [{base.__name__}](#{base.__name__.lower()}), and:\n"
    yield "| field | type | default | description |\n|---|---|---|---|"
    properties = object_schema(model)["properties"]
    for name, field in own.items():
        yield _row(
            field_name(name, field), field, properties[field_name(name, field)], documentation(model, name, field)
        )
    yield ""
    inherited = () if base is None else base.rules
    yield from _rules(tuple(rule for rule in model.rules if rule not in inherited))


def _row(name: str, field: FieldInfo, schema: Schema, text: str) -> str:
    default = default_of(field)
    shown = "required" if field.is_required() else "" if default is None else f"`{_literal(default)}`"
    return f"| `{name}` | {_type(schema, _model_of(field.annotation))} | {shown} | {_cell(text)} |"


def _rules(rules: tuple[Rule, ...]) -> Iterator[str]:
    changes = tuple(rule for rule in rules if "oldSelf" in rule.rule)
    judged = tuple(rule for rule in rules if rule not in changes)
    if judged:
        yield "Refused at admission otherwise:\n"
        yield from (f"- {_cell(rule.message)}" for rule in judged)
        yield ""
    if changes:
        yield "Refused when it changes:\n"
        yield from _grouped(changes)
        yield ""


def _grouped(rules: tuple[Rule, ...]) -> Iterator[str]:
    """One line for all fields of which the same is said; such a message begins with its field."""
    fields: dict[str, list[str]] = {}
    for rule in rules:
        field, _, said = rule.message.partition(" ")
        fields.setdefault(said, []).append(field)
    for said, named in fields.items():
        yield f"- {', '.join(f'`{field}`' for field in named)} {said}" if len(named) > 1 else f"- {named[0]} {said}"


def _type(schema: Schema, model: type[Model] | None) -> str:
    if INT_OR_STRING in schema:
        return f"number (≥ {schema['minimum']}) or share such as `5%`"
    if schema["type"] == "array":
        return f"list (≤ {schema['maxItems']}) of {_type(schema['items'], model)}"
    if schema["type"] == "object":
        if model is not None:
            return f"[{model.__name__}](#{model.__name__.lower()})"
        return f"map (≤ {schema['maxProperties']}) of string"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "date-time":
        return "time"
    if any(rule["rule"] == DURATION_RULE.rule for rule in schema.get("x-kubernetes-validations", ())):
        return "duration"
    return _plain(schema)


def _plain(schema: Schema) -> str:
    name: str = schema["type"]
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f"{name} ({least} to {most})"
    if least is not None:
        return f"{name} (≥ {least})"
    return f"{name} (≤ {schema['maxLength']})" if "maxLength" in schema else name


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
