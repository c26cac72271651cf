"""Public API: the public names, their signatures, their docstrings and the examples in them.

After a change that is meant, `python -m tests.test_public_api` rewrites `tests/public_api.txt`.
"""

import dataclasses
import difflib
import doctest
import enum
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

import msgspec
import pytest
from werkzeug.local import LocalProxy

import sessionsight

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = [
    "sessionsight",
    "sessionsight.adapters",
    "sessionsight.diagnosis",
    "sessionsight.destinations",
    "sessionsight.destinations.base",
    "sessionsight.propagation.aiohttp",
    "sessionsight.propagation.httpx",
    "sessionsight.propagation.requests",
    "sessionsight.propagation.rq",
    "sessionsight.propagation.celery",
    "sessionsight.propagation.django_tasks",
    "sessionsight.propagation.dramatiq",
    "sessionsight.propagation.huey",
    "sessionsight.sqlalchemy",
    "sessionsight.testing",
    "sessionsight.wsgi",
    "sessionsight_asgi",
    "sessionsight_asgi.testing",
    "sessionsight_django",
    "sessionsight_django.asgi",
    "sessionsight_django.testing",
    "sessionsight_flask",
    "sessionsight_pytest",
]
CORE = ["sessionsight", *(found.name for found in pkgutil.walk_packages(sessionsight.__path__, "sessionsight."))]


def public(module: str) -> Iterator[tuple[str, Any]]:
    loaded = importlib.import_module(module)
    for name in sorted(loaded.__all__):
        yield name, getattr(loaded, name)


def ours(kind: type) -> list[type]:
    """The class and those of its bases that are ours."""
    return [base for base in kind.__mro__ if base.__module__.partition("_")[0].partition(".")[0] == "sessionsight"]


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, by name."""
    found: dict[str, Any] = {}
    for base in reversed(ours(kind)):
        found |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in sorted(found.items()):
        if isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member):
            yield name, member


def fields(kind: type) -> Iterator[str]:
    """The fields of a struct or a dataclass, as they are written in its class."""
    written = {
        name: hint for base in reversed(ours(kind)) for name, hint in vars(base).get("__annotations__", {}).items()
    }
    if dataclasses.is_dataclass(kind):
        for fact in dataclasses.fields(kind):
            given = fact.default is not dataclasses.MISSING
            made = fact.default_factory is not dataclasses.MISSING
            default = f" = {shown(fact.default)}" if given else " = ..." if made else ""
            yield f"{fact.name}: {written[fact.name]}{default}"
        return
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f" = {shown(field.default)}"
        if field.default_factory is not msgspec.NODEFAULT:
            default = f" = {field.default_factory()!r}"
        yield f"{field.name}: {written[field.name]}{default}"


def shown(default: object) -> str:
    """A default that reads the same in every process and on every Python."""
    if inspect.isroutine(default) or isinstance(default, type):
        return default.__qualname__
    if default is None or default is msgspec.UNSET or isinstance(default, str | bytes | int | float | tuple):
        return repr(default)
    return f"{type(default).__name__}(...)"


def signature(function: Any) -> str:
    """A signature with annotations as they are written."""
    found = inspect.signature(function)
    parameters = []
    for parameter in found.parameters.values():
        if parameter.name in {"self", "cls"}:
            continue
        default = "" if parameter.default is parameter.empty else f" = {shown(parameter.default)}"
        hint = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        plain = parameter.replace(annotation=parameter.empty, default=parameter.empty)
        parameters.append((parameter.kind, f"{plain}{hint}{default}"))
    listed = [text for _, text in parameters]
    kinds = [kind for kind, _ in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        listed.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    return f"({', '.join(listed)}){result}"


def describe_class(name: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(kind, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in kind)
    elif issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind):
        yield from (f"    {field}" for field in fields(kind) if not field.startswith("_"))
    elif any("__init__" in vars(base) for base in ours(kind)) and not getattr(kind, "_is_protocol", False):
        yield f"    __init__{signature(kind.__init__)}"
    for member_name, member in members(kind):
        if isinstance(member, property):
            yield f"    {member_name} -> {inspect.signature(member.fget).return_annotation}"  # type: ignore[arg-type]
        else:
            prefix = "async " if inspect.iscoroutinefunction(member) else ""
            how = f"@{type(member).__name__} " if isinstance(member, classmethod | staticmethod) else ""
            yield f"    {how}{prefix}{member_name}{signature(getattr(member, '__func__', member))}"


def describe() -> str:
    """The whole public surface as text."""
    lines: list[str] = []
    for module in MODULES:
        lines += ["", f"# {module}", ""]
        for name, value in public(module):
            if type(value) is LocalProxy:
                lines.append(f"{name}: LocalProxy")
            elif isinstance(value, type):
                lines += describe_class(name, value)
            elif not inspect.isbuiltin(value) and (inspect.isroutine(value) or hasattr(value, "__wrapped__")):
                lines.append(f"def {name}{signature(value)}")
            else:
                kind = "Union" if isinstance(value, UnionType) else type(value).__name__  # one class since Python 3.14
                lines.append(f"{name}: {kind}")
    return "\n".join(lines).lstrip() + "\n"


def test_the_public_surface_is_the_one_that_was_agreed_on() -> None:
    expected = SNAPSHOT.read_text(encoding="utf-8")
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), describe().splitlines(), "agreed", "now", lineterm="")
    )
    assert not difference, (
        f"\n{difference}\n\nIf this is meant: python -m tests.test_public_api, and a line in CHANGELOG.md"
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_exists_once_and_stands_in_order(module: str) -> None:
    names = list(importlib.import_module(module).__all__)
    assert len(names) == len(set(names))
    assert {name for name, _ in public(module)} == set(names)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    missing: list[str] = []
    for name, value in public(module):
        if isinstance(value, type) or inspect.isroutine(value):
            missing += [] if value.__doc__ and not value.__doc__.startswith(f"{name}(") else [name]
        if isinstance(value, type):
            missing += [f"{name}.{member_name}" for member_name, member in members(value) if not inspect.getdoc(member)]
    assert missing == []


@pytest.mark.parametrize("module", [*CORE, *(name for name in MODULES if name not in CORE)])
def test_every_module_says_what_it_is_for_and_what_it_offers(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    assert [name for name in getattr(loaded, "__all__", ()) if not hasattr(loaded, name)] == []


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [found for found in doctest.DocTestFinder(exclude_empty=True).find(module) if found.examples]


@pytest.mark.parametrize("name", [name for name in CORE if ">>> " in inspect.getsource(importlib.import_module(name))])
def test_the_examples_in_the_docstrings_do_what_they_say(name: str) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    report: list[str] = []
    for example in examples(sys.modules[name]):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


if __name__ == "__main__":
    SNAPSHOT.write_text(describe(), encoding="utf-8")
