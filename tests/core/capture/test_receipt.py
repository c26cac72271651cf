"""Receipts of capturing calls: what they say, and when."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from sessionsight import Analytics, CaptureError, Receipt, TrackingContext
from sessionsight.capture.records import record_id
from sessionsight.capture.scope import RequestScope
from tests.core.box import Recorder, Visit

MakeRecorder = Callable[..., Recorder]
CALLS: dict[str, Callable[[Analytics], Receipt]] = {
    "capture": lambda analytics: analytics.capture("order_processed"),
    "capture with options": lambda analytics: analytics.capture("order_processed", user_id="user_2"),
    "identify": lambda analytics: analytics.identify("user_1"),
    "alias": lambda analytics: analytics.alias("anonymous_1"),
    "group": lambda analytics: analytics.group("company", "acme"),
    "set_person_properties": lambda analytics: analytics.set_person_properties({"plan": "pro"}),
    "set_person_properties_once": lambda analytics: analytics.set_person_properties_once({"plan": "pro"}),
    "increment": lambda analytics: analytics.goals.increment("signups"),
    "decrement": lambda analytics: analytics.goals.decrement("signups"),
}
WRONG: dict[str, Callable[[Any], Receipt]] = {
    "capture": lambda analytics: analytics.capture(""),
    "identify": lambda analytics: analytics.identify("user_1", traits=[1]),
    "alias": lambda analytics: analytics.alias(""),
    "group": lambda analytics: analytics.group("", "acme"),
    "set_person_properties": lambda analytics: analytics.set_person_properties(),
    "set_person_properties_once": lambda analytics: analytics.set_person_properties_once(1),
    "increment": lambda analytics: analytics.goals.increment("signups", amount=-1),
    "decrement": lambda analytics: analytics.goals.decrement(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_receipt_has_the_id_of_the_record(call: str, recorder: Recorder) -> None:
    receipt = CALLS[call](recorder.client.bind(user_id="user_1"))
    [record] = recorder.records()
    assert (receipt.id, receipt.accepted, receipt.reason) == (record_id(record), True, None)
    assert receipt
    assert repr(receipt) == f"Receipt(id={receipt.id!r}, accepted=True, reason=None)"


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_has_a_receipt_with_the_error(call: str, make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(strict=False)
    receipt = WRONG[call](recorder.client.bind(user_id="user_1"))
    assert not receipt
    assert (receipt.id, receipt.accepted) == ("", False)
    with pytest.raises(CaptureError) as raised:
        WRONG[call](make_recorder(strict=True).client.bind(user_id="user_1"))
    assert receipt.reason == str(raised.value)


def test_an_error_without_a_message_is_named(make_recorder: MakeRecorder) -> None:
    class Failing:
        def __len__(self) -> int:
            raise NotImplementedError

    recorder = make_recorder(strict=False)
    receipt = recorder.client.analytics.capture("order_processed", groups=Failing())  # type: ignore[arg-type]
    assert receipt.reason == "NotImplementedError"


def test_a_key_gives_the_same_id_to_both_calls(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    first, second = (analytics.capture("order_paid", key="order_1") for _ in range(2))
    assert (first.id, second.accepted) == (second.id, True)  # the queue finds the repetition, later
    assert len(recorder.records()) == 1


def test_a_refusal_is_known_where_the_request_was_read(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(consent=lambda data: False)
    assert recorder.client.for_request("ss_sid=session-1").capture("order_processed").reason == "consent"
    refused = recorder.client.bind(TrackingContext.from_carrier({"ss_opted_out": "1"}), user_id="user_1")
    receipt = refused.goals.increment("signups")
    assert (receipt.accepted, receipt.reason, len(receipt.id)) == (False, "consent", 36)
    unread = Analytics(RequestScope(recorder.client, Visit("ss_sid=session-1")))
    assert unread.capture("order_processed").accepted  # its cookies are read later
    unread._scope.end()
    assert recorder.records() == []
    assert recorder.dropped() == {"consent": 3}


def test_an_exclusion_is_known_where_the_request_was_read(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(exclude_paths=("/health",))
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/health", "wsgi.url_scheme": "http"}
    assert recorder.client.for_request(request).capture("order_processed").reason == "excluded"


def test_a_deferred_record_has_a_receipt(recorder: Recorder) -> None:
    waiting: list[Any] = []

    def defer(listener: Any, record: Any, using: str | None) -> bool:
        waiting.append((listener, record))
        return True

    recorder.client.defer_record = defer
    receipt = recorder.client.bind(user_id="user_1").capture("order_processed")
    [(listener, record)] = waiting
    assert (receipt.id, receipt.accepted) == (record_id(record), True)
    listener.transaction_ended(record, committed=False)
    assert recorder.records() == []
    assert receipt.accepted  # a receipt never changes
    assert recorder.dropped() == {"rolled_back": 1}


def test_receipts_differ_and_can_be_pickled(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    first, second = (analytics.capture("visited", groups={"company": "acme"}) for _ in range(2))
    assert len({first, second}) == 2
    copy = pickle.loads(pickle.dumps(first))
    assert copy.id == first.id != second.id


@pytest.mark.parametrize("given", [None, "01a22978-69f2-7fa8-bb02-22f6a7b411a5"], ids=repr)
def test_the_status_of_something_else_is_a_wrong_call(given: Any, make_recorder: MakeRecorder) -> None:
    with pytest.raises(CaptureError, match=r"status\(\) takes the receipt of a call, not "):
        make_recorder(strict=True).client.status(given)
    assert make_recorder(strict=False).client.status(given) == {}
