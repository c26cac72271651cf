"""Serialization of the vendors' requests."""

from decimal import Decimal

import pytest
from msgspec import Raw, Struct

from sessionsight.destinations.serialization import encode_body, rfc3339


class Body(Struct):
    name: str
    properties: Raw = Raw(b"{}")


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1767225600.0004, "2026-01-01T00:00:00.000Z"),
        (1767225599.9996, "2026-01-01T00:00:00.000Z"),
        (1767225600.9, "2026-01-01T00:00:00.900Z"),
        (-0.5, "1969-12-31T23:59:59.500Z"),
    ],
)
def test_a_time_is_utc_with_milliseconds(time: float, text: str) -> None:
    assert rfc3339(time) == text


def test_a_body_has_exact_numbers_and_properties_as_they_stand() -> None:
    body = {"amount": Decimal("49.90"), "rows": [Body("a", Raw(b'{"x": 1.10}'))]}
    assert encode_body(body) == b'{"amount":49.90,"rows":[{"name":"a","properties":{"x": 1.10}}]}'


class Marked(str):
    """As `markupsafe.Markup` is one."""

    __slots__ = ()


def test_text_of_a_kind_of_its_own_is_written_too() -> None:
    assert encode_body({"rows": [Body(Marked("a"))]}) == b'{"rows":[{"name":"a","properties":{}}]}'


def test_half_a_character_anywhere_in_a_body_becomes_a_mark() -> None:
    body = {"a\ud800": [Body("b\udfff"), ("c", "\ud83d")]}
    assert encode_body(body).decode() == '{"a\ufffd":[{"name":"b\ufffd","properties":{}},["c","\ufffd"]]}'
