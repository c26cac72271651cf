"""Values read as people write them."""

import pytest

from sessionsight.inspector import formats
from tests.core.inspector.samples import record

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 s"), (0, "0 s"), (0.254, "+0.25 s"), (12.44, "+12.4 s"), (187, "+3:07"), (3723, "+1:02:03")],
)
def test_offsets(seconds: float, shown: str) -> None:
    assert formats.offset(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (187, "3 min 7 s"),
        (3600, "1 h"),
        (3723, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_told_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert formats.duration(seconds).replace(NBSP, " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1204, "1,204"), (49.9, "49.90"), (1e6, "1,000,000"), (-1.5e20, "-1.5e+20")]
)
def test_numbers(value: float, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize("moment", [-1e300, -62_135_596_800.0, 0, 253_402_300_799.9, 1e300])
def test_any_time_can_be_shown(moment: float) -> None:
    assert len(formats.clock(moment)) == 12
    assert len(formats.date(moment)) == 10
    assert formats.day(moment)


def test_amounts_have_a_sign() -> None:
    assert (formats.amount(49), formats.amount(-12.5)) == ("+49", f"{MINUS}12.50")


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (0.84, "0.8 ms"), (12.4, "12 ms"), (1234, "1.2 s")])  # noqa: RUF001
def test_latencies(value: float | None, shown: str) -> None:
    assert formats.milliseconds(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1 byte"), (312, "312 bytes"), (4200, "4.1 KiB"), (3 << 20, "3.0 MiB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert formats.size(count) == shown


def test_ids_are_shortened_only_when_they_are_long() -> None:
    assert [formats.short(text) for text in (None, "", "user_1", "7d0c3f52-aa10")] == ["", "", "user_1", "7d0c3f52…"]


def gist(**properties: object) -> list[tuple[str, str]]:
    return formats.gist(record(properties=properties, raw={"path": "/pay"}))


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
    assert formats.gist(record(raw={"path": 7})) == []


def test_json_is_coloured_and_its_text_unchanged() -> None:
    value = {"a<b": ['x"y&z', -1.5e300, True, None, {"n": {}}]}
    shown = formats.json_lines(value)
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
