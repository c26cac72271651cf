"""Values read as people write them."""

import json
import shlex
from html import unescape

import pytest

from sessionsight.inspector import template_filters
from sessionsight.inspector.model import WEBSOCKET
from tests.core.inspector.samples import record
from tests.core.inspector.values import received

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.004, "+4 ms"),
        (0.254, "+0.25 s"),
        (12.44, "+12.4 s"),
        (187, "+3:07"),
        (3723, "+1:02:03"),
    ],
)
def test_offsets(seconds: float, shown: str) -> None:
    assert template_filters.offset(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.042, "42 ms"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (187, "3 min 7 s"),
        (3600, "1 h"),
        (3723, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_told_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert template_filters.duration(seconds).replace(NBSP, " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1204, "1,204"), (49.9, "49.90"), (1e6, "1,000,000"), (0.0014, "0.0014"), (-1.5e20, "-1.5e+20")],
)
def test_numbers(value: float, shown: str) -> None:
    assert template_filters.number(value) == shown


@pytest.mark.parametrize("moment", [-1e300, -62_135_596_800.0, 0, 253_402_300_799.9, 1e300])
def test_any_time_can_be_shown(moment: float) -> None:
    assert len(template_filters.time_milliseconds(moment)) == 12
    assert len(template_filters.date(moment)) == 10
    assert template_filters.day(moment)


@pytest.mark.parametrize(
    ("value", "money", "shown"),
    [
        (0, False, "0"),
        (-3, False, f"{MINUS}3"),
        (49.9, True, "$49.90"),
        (-54.5, True, f"{MINUS}$54.50"),
        (123_456_789_012.34, True, "$123,456,789,012.34"),
    ],
)
def test_totals_have_their_sign_before_their_currency(value: float, money: bool, shown: str) -> None:
    assert template_filters.total(value, money=money) == shown


@pytest.mark.parametrize(
    ("value", "money", "shown"),
    [
        (0, True, "$0"),
        (0.5, False, "0.5"),
        (0.001, True, "$0.001"),
        (999, False, "999"),
        (1500, True, "$1.5k"),
        (-2e8, True, f"{MINUS}$200M"),
        (4e11, False, "400B"),
        (2e12, False, "2T"),
        (5e19, True, "$5e+19"),
    ],
)
def test_a_charts_axis_has_short_numbers(value: float, money: bool, shown: str) -> None:
    assert template_filters.tick(value, money=money) == shown
    assert len(shown) <= 7


def test_amounts_have_a_sign() -> None:
    assert (template_filters.amount(49), template_filters.amount(-12.5)) == ("+49", f"{MINUS}12.50")


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (0.84, "0.8 ms"), (12.4, "12 ms"), (1234, "1.2 s")])  # noqa: RUF001
def test_latencies(value: float | None, shown: str) -> None:
    assert template_filters.milliseconds(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1 byte"), (312, "312 bytes"), (4200, "4.1 KiB"), (3 << 20, "3.0 MiB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert template_filters.size(count) == shown


def test_ids_are_shortened_only_when_they_are_long() -> None:
    assert [template_filters.short_id(text) for text in (None, "", "user_1", "7d0c3f52-aa10")] == [
        "",
        "",
        "user_1",
        "7d0c3f52…",
    ]


def gist(**properties: object) -> list[tuple[str, str]]:
    return template_filters.summary(record(properties=properties, raw={"path": "/pay"}))


def test_the_gist_leaves_out_the_vendors_own_properties_where_there_are_others() -> None:
    assert gist(**{"$current_url": "/", "plan": "pro", "n": 2, "ok": True}) == [
        ("plan", "pro"),
        ("n", "2"),
        ("ok", "true"),
    ]
    assert gist(**{"$current_url": "/"}) == [("$current_url", "/")]
    assert gist(text="x" * 100) == [("text", "x" * 59 + "…")]
    assert len(gist(**{str(n): n for n in range(100)})) == 6


def test_the_gist_of_a_record_without_properties_is_its_path() -> None:
    assert gist() == [("path", "/pay")]
    assert template_filters.summary(record(raw={"path": 7})) == []


def test_a_property_stands_on_one_line_where_it_is_short() -> None:
    assert template_filters.property_value("<b>plain</b>") == "&lt;b&gt;plain&lt;/b&gt;"
    assert template_filters.property_value("").striptags() == '""'
    assert template_filters.property_value({"a": [1, 2]}).striptags() == '{"a": [1, 2]}'
    assert "\n" in template_filters.property_value(list(range(100)))
    assert len(template_filters.property_value("x" * 10_000)) == 2000


def test_what_cannot_be_seen_is_written_out() -> None:
    hidden = "paid\N{RIGHT-TO-LEFT OVERRIDE}lave\N{ZERO WIDTH SPACE}"
    assert template_filters.property_value(hidden) == r"paid\u202elave\u200b"
    assert json.loads(unescape(template_filters.json_lines([hidden]).striptags())) == [hidden]
    assert (
        template_filters.property_value("\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}")
        == "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    )


def test_a_request_is_sent_once_more_by_curl() -> None:
    headers = [("host", "127.0.0.1"), ("content-length", "19"), ("content-type", "application/json")]
    sent = received(path="/v1/capture", query="a=1", headers=headers, body=b'{"note": "it\'s $5"}')
    words = shlex.split(template_filters.as_curl(sent, "http://127.0.0.1:7717").replace("\\\n", ""))
    assert words == [
        *["curl", "-X", "POST", "http://127.0.0.1:7717/v1/capture?a=1"],
        *["-H", "content-type: application/json", "--data-raw", '{"note": "it\'s $5"}'],
    ]
    assert "--data-raw" not in template_filters.as_curl(received(), "http://127.0.0.1:7717")
    assert template_filters.as_curl(received(body=b"x" * 100_000), "http://127.0.0.1:7717") == ""
    assert template_filters.as_curl(received(method=WEBSOCKET), "http://127.0.0.1:7717") == ""


def test_json_is_coloured_and_its_text_unchanged() -> None:
    value = {"a<b": ['x"y&z', -1.5e300, True, None, {"n": {}}]}
    shown = template_filters.json_lines(value)
    assert shown.count('class="json-key"') == 2
    assert shown.count('class="json-string"') == 1
    assert shown.count('class="json-word"') == 3
    assert shown.striptags().split() == [
        "{",
        '"a<b":',
        "[",
        '"x\\"y&z",',
        "-1.5e+300,",
        "true,",
        "null,",
        "{",
        '"n":',
        "{}",
        "}",
        "]",
        "}",
    ]
