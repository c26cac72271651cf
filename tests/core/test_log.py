import logging

import pytest

from sessionsight import log
from sessionsight.log import ThrottledLogger, caller_location
from tests.support.clock import FrozenClock

Messages = list[tuple[str, str]]


def messages(caplog: pytest.LogCaptureFixture) -> Messages:
    assert {record.name for record in caplog.records} <= {"sessionsight"}
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_message_is_logged_once_a_minute_and_its_repetitions_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FrozenClock()
    throttled = ThrottledLogger(clock=clock)
    for _ in range(4):
        throttled.log(logging.WARNING, "the vendor is down")
    throttled.log(logging.ERROR, "something else")
    clock.sleep(59.9)
    throttled.log(logging.WARNING, "the vendor is down")
    clock.sleep(0.1)
    throttled.log(logging.WARNING, "the vendor is down")
    clock.sleep(60)
    throttled.log(logging.WARNING, "the vendor is down")
    assert messages(caplog) == [
        ("WARNING", "the vendor is down"),
        ("ERROR", "something else"),
        ("WARNING", "the vendor is down (and 4 more like this)"),
        ("WARNING", "the vendor is down"),
    ]


def test_messages_with_one_key_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    throttled = ThrottledLogger()
    throttled.log(logging.WARNING, "refused: 1", key="refused")
    throttled.log(logging.WARNING, "refused: 2", key="refused")
    assert messages(caplog) == [("WARNING", "refused: 1")]


def test_buffered_messages_are_logged_by_flush_buffered(caplog: pytest.LogCaptureFixture) -> None:
    throttled = ThrottledLogger(buffered=True)
    throttled.log(logging.WARNING, "first")
    throttled.log(logging.WARNING, "first")
    throttled.log(logging.ERROR, "second")
    assert messages(caplog) == []
    throttled.flush_buffered()
    throttled.log(logging.WARNING, "third")
    throttled.flush_buffered()
    assert messages(caplog) == [("WARNING", "first"), ("ERROR", "second"), ("WARNING", "third")]


def test_buffered_messages_and_keys_are_bounded() -> None:
    throttled = ThrottledLogger(buffered=True)
    for number in range(3000):
        throttled.log(logging.WARNING, f"message {number}")
    assert len(throttled._buffer) <= 100
    assert len(throttled._last) <= 1000


def test_foreign_text_cannot_forge_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    ThrottledLogger().log(logging.WARNING, "bad: x\nERROR forged\x1b[31m %s ä")
    assert messages(caplog) == [("WARNING", "bad: x\\nERROR forged\\x1b[31m %s ä")]


class RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("buffered", [False, True])
def test_exceptions_of_handlers_are_suppressed(*, buffered: bool) -> None:
    handler = RaisingHandler()
    log.logger.addHandler(handler)
    try:
        throttled = ThrottledLogger(buffered=buffered)
        throttled.log(logging.WARNING, "message")
        throttled.flush_buffered()
    finally:
        log.logger.removeHandler(handler)


def test_the_caller_is_the_first_frame_outside_our_packages() -> None:
    ours: dict[str, object] = {"__name__": "sessionsight_flask.inner", "caller_location": caller_location}
    exec("def call(): return caller_location()", ours)
    assert str(ours["call"]()).startswith(f"{__file__}:")  # type: ignore[operator]
    foreign: dict[str, object] = {"__name__": "sessionsights", "caller_location": caller_location}
    exec("def call(): return caller_location()", foreign)
    assert foreign["call"]() == "<string>:1"  # type: ignore[operator]


def test_the_caller_outside_our_packages_may_be_the_standard_library() -> None:
    import threading

    found: list[str] = []
    ours: dict[str, object] = {"__name__": "sessionsight", "caller_location": caller_location, "found": found}
    exec("def call(): found.append(caller_location())", ours)
    thread = threading.Thread(target=ours["call"])  # type: ignore[arg-type]
    thread.start()
    thread.join()
    assert "threading.py:" in found[0]
