"""The keys of a section of settings against the fields of a dataclass: names and types, before any value is looked at."""

import math
from numbers import Integral, Real
from types import UnionType
from typing import ClassVar, get_args, get_origin, get_type_hints

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: 'a text in "quotes"'}


def check_keys(section: str, kind: type, values: dict) -> None:
    """ValueError names the first key of values that is no field of the dataclass `kind`, or whose type is not the field's.

    Types are int, float (finite), bool, str, lists or tuples and dicts of these, and None beside one of them.
    """
    hints = {key: hint for key, hint in get_type_hints(kind).items() if get_origin(hint) is not ClassVar}
    for key, value in values.items():
        if key not in hints:
            owner = f" of {kind.architecture}" if hasattr(kind, "architecture") else ""
            raise ValueError(f"{section}.{key} is not a setting{owner}; known: {', '.join(sorted(hints))}")
        if not fits(value, hints[key]):
            raise ValueError(f"{section}.{key} must be {describe(hints[key])}, got {value!r}")


def fits(value: object, hint) -> bool:
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if isinstance(hint, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return isinstance(value, (list, tuple)) and all(fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(fits(item, get_args(hint)[1]) for item in value.values())
    return isinstance(value, hint)


def describe(hint) -> str:
    if isinstance(hint, UnionType):
        return describe(get_args(hint)[0])
    if get_origin(hint) in (list, tuple):
        return f"a list, each entry {describe(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"a table, each value {describe(get_args(hint)[1])}"
    return NAMES[hint]
