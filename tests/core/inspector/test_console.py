import contextlib
import io
import json
import os
import re
from typing import Any

import pytest

from sessionsight.inspector import console
from tests.core.inspector.values import goal, record


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"session_id": "0b54ad6e-95f8", "user_id": "user_1"}, "signal Report Exported 0b54ad6e user_1"),
        ({"visitor_id": "7f8d1c1e-3f0b-4f4e"}, "signal Report Exported 7f8d1c1e…"),
        ({"amount": 4900.0}, "signal Report Exported 4900"),
        ({"kind": "group", "name": "$group_assign"}, "signal group $group_assign"),
        ({"name": "x" * 40}, f"signal {'x' * 27}…"),
        ({"name": "\x1b[31m\r\n"}, "signal ?[31m??"),
        ({"accepted": False, "errors": ["a: b", "c: d"]}, "signal Report Exported refused: a: b; c: d"),
    ],
)
def test_a_record_is_a_line(changes: dict[str, Any], expected: str) -> None:
    time, *rest = console.line(record(**changes)).split()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time)
    assert " ".join(rest) == expected


def test_goals_tell_their_direction() -> None:
    assert console.line(goal(49.9)).split()[1:] == ["sessionsight", "revenue", "increment", "49.9"]
    assert console.line(goal(-1)).split()[1:] == ["sessionsight", "revenue", "decrement", "1"]


def test_colours_change_nothing_else() -> None:
    refused = record(accepted=False, errors=["a: b"])
    coloured = console.line(refused, colour=True)
    assert "\x1b[35m" in coloured
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == console.line(refused)


def test_columns_stand_under_their_heading() -> None:
    line = console.line(record(session_id="session", user_id="user", amount=1.0))
    for word, value in (
        ("vendor", "signal"),
        ("record", "Report"),
        ("session", "session"),
        ("who", "user"),
        ("amount", "1"),
    ):
        assert line[console.HEADING.index(word) :].startswith(value)


def test_json_lines_are_whole_records() -> None:
    stream = io.StringIO()
    printer = console.printer(stream, console.json_line)
    printer([record(name="a"), record(name="b\n")])
    printer([])
    assert [json.loads(line)["name"] for line in stream.getvalue().splitlines()] == ["a", "b\n"]


def test_a_terminal_without_some_letter_gets_another() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console.printer(stream, console.line)([record(name="Café")])
    stream.seek(0)
    assert "Caf?" in stream.read()


def test_a_terminal_that_has_gone_disturbs_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w", encoding="utf-8") as stream:
        printer = console.printer(stream, console.line)
        printer([record()])
        printer([record()])
