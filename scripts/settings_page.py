"""Write the tables of docs/settings.md from the annotations, defaults and docstrings of `sessionsight.Settings`.

Usage: python scripts/settings_page.py [--check]

A table replaces what is between `<!-- settings: NAME ... -->` or `<!-- variables -->` and the next `<!-- end -->`.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec.structs import fields

from sessionsight import Settings
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.environment import VARIABLES, option_of
from sessionsight.settings import _VARIABLES_TOO

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_TABLE = re.compile(r"(?P<start><!-- (?:settings: (?P<names>[^>]*)|variables) -->\n).*?<!-- end -->", re.DOTALL)
_HINTS = get_type_hints(Settings)
_DEFAULTS = {field.name: field.default for field in fields(Settings)}
_TYPE_NAMES = {str: "string", NoneType: "None"}
_TIMES = (("day", 24 * 3600), ("h", 3600), ("min", 60))
_SIZES = (("MiB", 1024 * 1024), ("KiB", 1024))


def main() -> None:
    """Write the page, or check that it is up to date."""
    old = PAGE.read_text("utf-8")
    new = render(old)
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.exit(f"{PAGE.name} does not match sessionsight.Settings; run python scripts/settings_page.py")
        return
    PAGE.write_text(new, "utf-8")


def render(page: str) -> str:
    """Return the page with current tables.

    Raises:
        ValueError: A setting is in no table, in two, or unknown.
    """
    listed = [name for table in _TABLE.finditer(page) if table["names"] for name in table["names"].split()]
    if sorted(listed) != sorted(_DEFAULTS):
        wrong = sorted(set(listed) ^ set(_DEFAULTS)) or sorted({name for name in listed if listed.count(name) > 1})
        raise ValueError(f"{PAGE.name} must list each setting in one table; check {', '.join(wrong)}")
    return _TABLE.sub(_replace, page)


def _replace(found: re.Match[str]) -> str:
    rows = _setting_rows(found["names"].split()) if found["names"] else _variable_rows()
    return f"{found['start']}\n" + "\n".join(rows) + "\n\n<!-- end -->"


def _setting_rows(names: list[str]) -> Iterator[str]:
    documentation = {**_docstrings(DeliveryOptions), **_docstrings(Settings)}
    yield "| setting | type | default | description |"
    yield "|---|---|---|---|"
    for name in names:
        yield f"| `{name}` | {_type(name, _HINTS[name])} | {_default(name)} | {documentation[name]} |"


def _variable_rows() -> Iterator[str]:
    yield "| variable | sets |"
    yield "|---|---|"
    for name in sorted(_VARIABLES_TOO):
        yield f"| `SESSIONSIGHT_{name.upper()}` | `{name}` |"
    for variable in VARIABLES:
        destination, option = option_of(variable)
        file = ", as the path of a file that contains it" if variable.endswith("_FILE") else ""
        yield f"| `{variable}` | `{option}` of the destination `{destination}`{file} |"


def _docstrings(kind: type) -> dict[str, str]:
    """Return the fields of a class with the docstrings below them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    found = {}
    for pair in pairwise(getattr(body, "body", ())):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _type(name: str, hint: Any) -> str:
    if hint is float:
        return "float, in seconds"
    if hint is int:
        return "integer, in bytes" if name.endswith("_bytes") else "integer"
    if hint is bool:
        return "boolean"
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(hint))
    if origin in {Union, UnionType}:
        return ", ".join(_type(name, part) for part in get_args(hint) if part is not NoneType)
    if origin is Callable:
        return "function"
    if origin is tuple:
        item = get_args(hint)[0]
        return "mapping" if name == "destinations" else f"list of {_type(name, item)}s"
    return _TYPE_NAMES.get(hint) or f"`{hint.__name__}`"


def _default(name: str) -> str:
    value = _DEFAULTS[name]
    if value is None or value == ():
        return "from the environment" if name == "destinations" else "none"
    if _HINTS[name] is float:
        return _with_unit(value, _TIMES, "s")
    if _HINTS[name] is int and name.endswith("_bytes"):
        return _with_unit(value, _SIZES, "bytes")
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`" if isinstance(value, bool) else f"{value:,}"


def _with_unit(value: float, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    for unit, size in units:
        if value >= 2 * size and value % size == 0:
            count = value // size
            return f"{count:g} {unit}{'s' if unit == 'day' else ''}"
    return f"{value:g} {smallest}"


if __name__ == "__main__":
    main()
