"""The page on destinations is true: its fifth destination works, its tables are the classes' own options."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import fields

from sessionsight.capture.encoding import decode
from sessionsight.capture.records import DropReason
from sessionsight.destinations import BY_NAME
from sessionsight.destinations.base import Action, Destination, VendorDestination, VendorResponse
from sessionsight.errors import ConfigurationError
from sessionsight.settings import Settings
from tests.core.destinations.factories import (
    NOBODY,
    NOW,
    RECORD_ID,
    TIMESTAMP,
    USER,
    entry,
    event,
    goal,
)

PAGE = (Path(__file__).parent.parent / "docs" / "destinations.md").read_text(encoding="utf-8")
[CODE] = re.findall(r"```python\n((?:(?!```).)*class Warehouse.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def warehouse() -> Iterator[Any]:
    """The page's class, executed as a module of its own."""
    module = ModuleType("warehouse_of_the_page")
    sys.modules[module.__name__] = module
    try:
        exec(compile(CODE, "docs/destinations.md", "exec"), module.__dict__)
        yield module.__dict__["Warehouse"]
    finally:
        del sys.modules[module.__name__]


def test_a_whole_destination_takes_less_than_forty_lines() -> None:
    assert len(CODE.splitlines()) < 40


def test_the_pages_destination_sends_events_and_nothing_else(warehouse: Any) -> None:
    made: Destination = warehouse(token="token_1")
    assert made.supports(type(event()))
    assert not made.supports(type(goal()))
    assert made.drop_reason(event(), NOBODY) is DropReason.NO_IDENTITY
    assert made.drop_reason(event(), USER) is None
    assert (made.limits.max_records, made.limits.gzip_above) == (500, 1024)

    entries = [entry(event("a", {"n": 1}), USER), entry(event("b", user_id="user_2"), USER)]
    [call] = made.build_requests(entries, now=NOW)

    assert (call.method, call.url) == ("POST", "https://events.example.com/ingest")
    assert call.headers == {"Content-Type": "application/json", "Authorization": "Bearer token_1"}
    assert list(call.entries) == entries
    assert decode(call.body) == {
        "rows": [
            {"id": RECORD_ID, "event": "a", "user": "user_1", "at": TIMESTAMP, "properties": {"n": 1}},
            {"id": RECORD_ID, "event": "b", "user": "user_2", "at": TIMESTAMP, "properties": {}},
        ]
    }
    assert made.classify(call, VendorResponse(status=200)).action is Action.DELIVERED
    assert made.classify(call, VendorResponse(status=401)).action is Action.PAUSE
    assert "token_1" not in repr(made)


def test_the_pages_destination_has_checked_options(warehouse: Any) -> None:
    with pytest.raises(ConfigurationError, match="destination 'warehouse': token is missing or blank"):
        warehouse(token=" ")
    with pytest.raises(ConfigurationError, match="url must be str, not 7"):
        warehouse(token="t", url=7)


def test_the_pages_destination_goes_into_settings(warehouse: Any) -> None:
    made = warehouse(token="token_1")
    assert Settings.from_mapping({"DESTINATIONS": {"warehouse": made}}).destinations == (made,)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_tables_hold_each_option_and_its_default(name: str) -> None:
    section = PAGE.partition(f"### `{name}`\n")[2].partition("\n##")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))
    assert rows == {field: f"`{default}`" if default else "required" for field, default in options(BY_NAME[name])}


def options(kind: type[VendorDestination]) -> Iterator[tuple[str, str | None]]:
    """Each option with its default as it is in use, in the page's double quotes."""
    required = [field.name for field in fields(kind) if field.required]
    made = kind(**dict.fromkeys(required, "x"))
    for name in kind.__struct_fields__:
        value = getattr(made, name)
        yield name, None if name in required else f'"{value}"' if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_table_of_destinations_names_each(name: str) -> None:
    assert f"| `{name}` | `{BY_NAME[name].__name__}` |" in PAGE
