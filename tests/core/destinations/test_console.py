"""The console prints what vendors would be given, one line a record."""

import io
import sys
import threading
from typing import Any

import pytest

from sessionsight import Client, SessionSightIds, Settings, TrackingContext
from sessionsight.destinations import Console
from tests.support.clients import closed_at_the_end
from tests.support.server import until

CONTEXT = TrackingContext(sessionsight=SessionSightIds(session_id="session-1", visitor_id="visitor-1"))


def client(**options: Any) -> Client:
    return Client(Settings.from_mapping({"destinations": {"console": {}}, "strict": True, **options}))


def printed(made: Client, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert made.flush(10)
    assert made.stats().lanes["console"].balanced
    out, err = capsys.readouterr()
    assert out == ""
    return str(err).splitlines()


def test_each_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    made = client()
    analytics = made.bind(CONTEXT, user_id="user_1")
    analytics.capture("order_processed", {"order_id": "ord_1"})
    analytics.goals.decrement("monthly-revenue", amount=49, session_id="other")
    analytics.feedback.submit("nps", option="9", session_id="other")
    analytics.identify("user_2", {"plan": "pro"})
    analytics.alias("visitor-9")
    analytics.group("company", "acme-1")
    analytics.set_person_properties({"plan": "pro"})
    assert sorted(printed(made, capsys)) == [
        "console: alias alias=visitor-9 user=user_2 anonymous=visitor-1 session=session-1",
        'console: event order_processed user=user_1 anonymous=visitor-1 session=session-1 {"order_id":"ord_1"}',
        'console: feedback nps user=user_1 anonymous=visitor-1 session=other {"option":"9"}',
        "console: goal monthly-revenue -49 user=user_1 anonymous=visitor-1 session=other",
        "console: group company=acme-1 user=user_2 anonymous=visitor-1 session=session-1",
        'console: identify user=user_2 anonymous=visitor-1 session=session-1 {"plan":"pro"}',
        'console: person_properties user=user_2 anonymous=visitor-1 session=session-1 {"plan":"pro"}',
    ]


def test_a_record_of_nobody_is_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    made = client()
    made.analytics.capture("seen")
    made.analytics.goals.increment("signups")
    assert sorted(printed(made, capsys)) == ["console: event seen", "console: goal signups +1"]


@pytest.mark.parametrize(
    "name",
    ["two\nlines", "\x1b[2J", "\x9b2J", "two\u2028lines", "two words", 'a "quoted" one', "caf\u00e9", "\udcff"],
)
def test_a_line_stays_a_line_whatever_it_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = client()
    made.analytics.capture(name, {"text": f"x{name}"})
    [line] = printed(made, capsys)
    assert line.isprintable()


def test_what_must_not_leave_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    made = client(redact=["email"], before_send=lambda record, name: None if record["name"] == "no" else record)
    made.analytics.capture("no")
    made.analytics.capture("yes", {"email": "ada@example.com"})
    [line] = printed(made, capsys)
    assert "yes" in line
    assert "ada@" not in line


def test_without_stderr_records_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    made = client()
    made.analytics.capture("seen")
    assert not made.flush(0.2)
    assert made.stats().lanes["console"].pending == 1
    assert made.stats().lanes["console"].last_error == "this process has no stderr"


def test_what_a_test_leaves_is_not_printed_after_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody holds the client any more, and stderr is there again."""

    def use_and_drop() -> None:
        made = client()
        made.analytics.capture("seen")
        until(lambda: made.stats().lanes["console"].last_error, "it was tried")

    with monkeypatch.context() as patch, closed_at_the_end():
        patch.setattr(sys, "stderr", None)
        use_and_drop()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sessionsight-console")]
    assert "event seen" not in capsys.readouterr().err


def test_a_console_needs_no_keys() -> None:
    assert repr(Console()) == "Console(name='console')"
    assert Settings.from_mapping({"destinations": {"console": {}}}).destinations == (Console(),)


def test_records_are_kept_while_stderr_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    made = client()
    made.analytics.capture("seen")
    assert not made.flush(0.2)
    assert made.stats().lanes["console"].pending == 1
    assert made.stats().lanes["console"].last_error == "stderr cannot be written to: ValueError"


def test_no_records_make_no_request() -> None:
    assert Console().build_requests([], now=0) == []
