import logging
import types

import pytest

from sessionsight import log
from sessionsight.log import Notices, caller

Messages = list[tuple[str, str]]


def messages(caplog: pytest.LogCaptureFixture) -> Messages:
    assert {record.name for record in caplog.records} <= {"sessionsight"}
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A clock that stands still until a test moves it."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(log, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_message_is_logged_once_a_minute_and_its_repetitions_are_counted(
    caplog: pytest.LogCaptureFixture, clock: types.SimpleNamespace
) -> None:
    told = Notices()
    for _ in range(4):
        told.tell(logging.WARNING, "the vendor is down")
    told.tell(logging.ERROR, "something else")
    clock.now += 59.9
    told.tell(logging.WARNING, "the vendor is down")
    clock.now += 0.1
    told.tell(logging.WARNING, "the vendor is down")
    clock.now += 60
    told.tell(logging.WARNING, "the vendor is down")
    assert messages(caplog) == [
        ("WARNING", "the vendor is down"),
        ("ERROR", "something else"),
        ("WARNING", "the vendor is down (and 4 more like this)"),
        ("WARNING", "the vendor is down"),
    ]


def test_messages_about_the_same_thing_are_one(caplog: pytest.LogCaptureFixture) -> None:
    told = Notices()
    told.tell(logging.WARNING, "refused: 1", about="refused")
    told.tell(logging.WARNING, "refused: 2", about="refused")
    assert messages(caplog) == [("WARNING", "refused: 1")]


def test_held_messages_wait_until_logging_is_safe(caplog: pytest.LogCaptureFixture) -> None:
    told = Notices(hold=True)
    told.tell(logging.WARNING, "first")
    told.tell(logging.WARNING, "first")
    told.tell(logging.ERROR, "second")
    assert messages(caplog) == []
    told.release()
    told.tell(logging.WARNING, "third")
    told.release()
    assert messages(caplog) == [("WARNING", "first"), ("ERROR", "second"), ("WARNING", "third")]


def test_neither_waiting_messages_nor_their_subjects_grow_without_end() -> None:
    told = Notices(hold=True)
    for number in range(3000):
        told.tell(logging.WARNING, f"message {number}")
    assert len(told._waiting) <= 100
    assert len(told._last) <= 1000


def test_a_text_from_outside_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Notices().tell(logging.WARNING, "bad: x\nERROR forged\x1b[31m %s ä")
    assert messages(caplog) == [("WARNING", "bad: x\\nERROR forged\\x1b[31m %s ä")]


class RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("hold", [False, True])
def test_a_handler_that_raises_harms_nobody(*, hold: bool) -> None:
    handler = RaisingHandler()
    log.logger.addHandler(handler)
    try:
        told = Notices(hold=hold)
        told.tell(logging.WARNING, "message")
        told.release()
    finally:
        log.logger.removeHandler(handler)


def test_the_caller_is_the_first_frame_outside_our_packages() -> None:
    ours: dict[str, object] = {"__name__": "sessionsight_flask.inner", "caller": caller}
    exec("def call(): return caller()", ours)
    assert str(ours["call"]()).startswith(f"{__file__}:")  # type: ignore[operator]
    foreign: dict[str, object] = {"__name__": "sessionsights", "caller": caller}
    exec("def call(): return caller()", foreign)
    assert foreign["call"]() == "<string>:1"  # type: ignore[operator]


def test_a_caller_that_is_all_ours_is_unknown() -> None:
    import threading

    found: list[str] = []
    ours: dict[str, object] = {"__name__": "sessionsight", "caller": caller, "found": found}
    exec("def call(): found.append(caller())", ours)
    thread = threading.Thread(target=ours["call"])  # type: ignore[arg-type]
    thread.start()
    thread.join()
    assert "threading.py:" in found[0]
