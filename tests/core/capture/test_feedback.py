import logging
from collections.abc import Callable
from typing import Any

import pytest

from sessionsight import InvalidEventError, InvalidPropertiesError, TrackingContext
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import FeedbackRecord
from sessionsight.testing import record
from tests.core.box import Recorder


def submitted(recorder: Recorder) -> list[FeedbackRecord]:
    return [record for record in recorder.records() if isinstance(record, FeedbackRecord)]


def test_feedback_keeps_what_it_was_given(recorder: Recorder) -> None:
    feedback = recorder.client.analytics.feedback
    assert feedback.submit("nps").accepted
    feedback.submit(
        "bug-report",
        option="broken",
        message="The button does nothing",
        metadata={"page": "/pay", "tries": 3},
        session_id="session-1",
        key="bug:1",
        destinations=["box"],
    )
    first, second = submitted(recorder)
    assert (first.label, first.session_id, first.properties, first.key) == ("nps", None, b"{}", None)
    assert (second.label, second.session_id, second.key) == ("bug-report", "session-1", "bug:1")
    assert second.destinations == frozenset({"box"})
    assert decode(second.properties) == {
        "option": "broken",
        "message": "The button does nothing",
        "metadata": {"page": "/pay", "tries": 3},
    }


def test_a_visitor_may_write_more_than_is_sent(recorder: Recorder) -> None:
    assert recorder.client.analytics.feedback.submit("bug-report", message="x" * 70_000)
    assert decode(submitted(recorder)[0].properties) == {"message": "x" * 5000}


def test_redaction_reaches_the_message(make_recorder: Callable[..., Recorder]) -> None:
    recorder = make_recorder(redact=("message",))
    recorder.client.analytics.feedback.submit("nps", option="9", message="my name is")
    assert b"my name is" not in submitted(recorder)[0].properties


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((" ",), {}),
        ((7,), {}),
        (("nps", "9"), {}),
        (("nps",), {"answer": "9"}),
        (("nps",), {"option": 9}),
        (("nps",), {"message": b"text"}),
        (("nps",), {"session_id": ""}),  # the vendor's SDK falls back to the request's session without one only
        (("nps",), {"key": 5}),
        (("nps",), {"metadata": {"text": "x" * 70_000}}),
    ],
)
def test_wrong_feedback_raises_in_strict_mode_and_is_counted_in_production(
    make_recorder: Callable[..., Recorder], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    recorder, lenient = make_recorder(strict=True), make_recorder()
    with pytest.raises((InvalidEventError, InvalidPropertiesError)):
        recorder.client.analytics.feedback.submit(*arguments, **options)
    assert lenient.client.analytics.feedback.submit(*arguments, **options).reason
    assert recorder.records() == lenient.records() == []
    assert lenient.client.stats().rejected == 1


def test_metadata_that_is_not_a_mapping_is_left_out_and_the_feedback_is_sent(
    make_recorder: Callable[..., Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder()
    with caplog.at_level(logging.WARNING):
        recorder.client.analytics.feedback.submit("nps", option="9", metadata=["a"])  # type: ignore[arg-type]
    assert [decode(one.properties) for one in submitted(recorder)] == [{"option": "9"}]
    assert "metadata must be a mapping of names to values" in caplog.text


def test_a_refusal_drops_feedback_as_everything_else(recorder: Recorder) -> None:
    refused = TrackingContext.from_carrier({"ss_opted_out": "1"})
    recorder.client.bind(refused).feedback.submit("nps", session_id="session-1")
    assert recorder.records() == []
    assert recorder.dropped() == {"consent": 1}


def test_a_recorder_of_a_users_tests_has_the_feedback(recorder: Recorder) -> None:
    with record() as analytics:
        recorder.client.analytics.feedback.submit("nps", option="9", session_id="session-1")
    [feedback] = analytics.feedback
    assert (feedback.kind, feedback.name, feedback.properties) == ("feedback", "nps", {"option": "9"})
    assert feedback.session_id == "session-1"
