"""Pieces of CEL that the rules of several kinds are put together from.

Rules are text that the API server compiles; these functions return that text and evaluate nothing. They keep to what
the cost estimate allows: every list they walk is capped in the schema.
"""

from collections.abc import Iterable

_UNITS = (
    ("(u|µ|μ|mic)", "1.0"),
    ("(ms|mil)", "1000.0"),
    ("n", "0.001"),
    ("m", "60000000.0"),
    ("h", "3600000000.0"),
    ("d", "86400000000.0"),
    ("w", "604800000000.0"),
)
"""How a unit begins, and its microseconds, in the order of asking: ``m`` would be found in ``ms`` and ``micros``."""


def one_of(values: Iterable[str]) -> str:
    """Return a CEL list of strings."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def any_given(of: str, fields: Iterable[str]) -> str:
    """Return an expression: at least one of ``fields`` is given in the object ``of``."""
    return "(" + " || ".join(f"has({of}.{field})" for field in fields) + ")"


def unchanged(path: str, old: str, new: str = "self") -> str:
    """Return an expression: the optional field ``path`` is the same in ``old`` and ``new``, or absent in both.

    Written out, because the cost estimate knows no bound for the comparison of CEL's optional values.
    """
    field = path.rpartition(".")[0]
    parent = f"has({{0}}.{field}) && " if field else ""
    given = f"({parent}has({{0}}.{path}))"
    here, before = given.format(new), given.format(old)
    return f"({here} == {before} && (!{here} || {new}.{path} == {old}.{path}))"


def microseconds(text: str) -> str:
    """Return an expression: the length of the duration that the expression ``text`` spells, as a double.

    CEL's own ``duration()`` knows neither days nor ISO 8601. Both forms are numbers, each followed by its unit; months
    and years are not accepted, so ``m`` is minutes in ISO 8601 too. A clock (``24:00:00``) may end the friendly form.
    """
    factor = "1000000.0"
    for begins, micros in reversed(_UNITS):
        factor = rf"t.matches(r'[0-9]\s*{begins}') ? {micros} : {factor}"
    number = "double(t.find('[0-9.,]+').replace(',', '.'))"
    terms = rf"{text}.lowerAscii().findAll(r'[0-9]+([.,][0-9]+)?\s*[a-zµμ]+').map(t, {number} * ({factor})).sum()"
    clock = " + ".join(
        f"double({text}.find('{part}').replace(':', '').replace(',', '.').trim()) * {micros}"
        for part, micros in (
            ("[0-9]+:", "3600000000.0"),
            (":[0-9]+:", "60000000.0"),
            (":[0-9]+([.,][0-9]+)?[^:0-9]*$", "1000000.0"),
        )
    )
    return f"({terms} + ({text}.contains(':') ? {clock} : 0.0))"


def shorter(one: str, other: str, *, or_equal: bool = False) -> str:
    """Return an expression: duration ``one`` is shorter than duration ``other``.

    The margin of ten nanoseconds is for the rounding of doubles (``1.1h`` is ``66m``).
    """
    comparison = "<= 0.01" if or_equal else "< -0.01"
    return f"{microseconds(one)} - {microseconds(other)} {comparison}"
