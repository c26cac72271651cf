"""docs/privacy.md lists what leaves the process: no more and no less than what a real server receives."""

import re

import pytest

from tests.conformance.outflow import (
    ADDRESS,
    UNLISTED,
    VENDORS,
    Fields,
    Outflow,
    capture_everything,
    context_fields,
    marker,
)
from tests.support.pages import ROOT

TEXT = (ROOT / "docs/privacy.md").read_text("utf-8")
TITLES = dict(zip(("SessionSight", "Signal", "Saytics", "Analyse.net"), VENDORS, strict=True))


@pytest.fixture(scope="module")
def outflow() -> Outflow:
    return capture_everything()


def section(text: str, title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def listed(text: str) -> set[str]:
    """The fields of a table, as `Outflow.fields` names them."""
    rows = re.findall(r"^\| (header |query |)`([^`]+)` \|", text, re.MULTILINE)
    return {kind + (name.lower() if kind == "header " else name) for kind, name in rows}


def documented(text: str = TEXT) -> Fields:
    common = listed(section(text, "Every request"))
    found: Fields = {}
    for title, vendor in TITLES.items():
        found[vendor] = {}
        tables = re.findall(r"^(`[A-Z]+ /.*?:)\n\n(\|.*?)\n(?:\n|\Z)", section(text, title), re.MULTILINE | re.DOTALL)
        for heading, table in tables:
            for request in re.findall(r"`([A-Z]+ /[^`]+)`", heading):
                found[vendor][request] = listed(table) | common
                if not request.startswith("POST"):
                    found[vendor][request] -= {"header content-type", "header content-length"}
    return found


def test_each_field_on_the_wire_is_documented_and_each_documented_field_occurs(outflow: Outflow) -> None:
    assert documented() == outflow.fields()


def test_each_fact_about_a_visitor_goes_where_the_table_says(outflow: Outflow) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (?:[^|]*) \| (.*) \|$", section(TEXT, "Facts about a visitor"), re.MULTILINE)
    table = {fact: [cell.strip() != "no" for cell in cells.split("|")] for fact, cells in rows}
    assert table == {fact: [outflow.contains(vendor, marker(fact)) for vendor in VENDORS] for fact in context_fields()}


@pytest.mark.parametrize("text", [UNLISTED, ADDRESS])
def test_nothing_else_of_a_request_is_sent(text: str, outflow: Outflow) -> None:
    assert not [vendor for vendor in VENDORS if outflow.contains(vendor, text)]


@pytest.mark.parametrize(
    ("row", "changed"),
    [
        ("| `events[].windowId` | `x-signal-window-id` |\n", ""),
        ("| `traits` |", "| `traits` | x |\n| `trait` |"),
        ("| header `x-api-key` | the secret key |\n| `goalId`", "| `goalId`"),
        ("`POST /v1/events/batch`, for", "`POST /v1/events/bulk`, for"),
    ],
)
def test_a_page_with_a_field_too_few_or_too_many_fails(row: str, changed: str, outflow: Outflow) -> None:
    assert row in TEXT
    assert documented(TEXT.replace(row, changed, 1)) != outflow.fields()
