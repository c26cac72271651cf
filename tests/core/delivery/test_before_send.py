from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sessionsight.capture.encoding import encode
from sessionsight.capture.records import EventRecord, FeedbackRecord, Goal, Identify, QueuedRecord
from sessionsight.delivery.before_send import apply
from sessionsight.errors import CaptureError
from sessionsight.request.context import SessionSightIds, TrackingContext

CONTEXT = TrackingContext(user_id="user_1", sessionsight=SessionSightIds(session_id="6f1d2c3b"))


def paid(**fields: Any) -> QueuedRecord:
    properties = encode({"amount": Decimal("49.90"), "card": "4242"})
    record = EventRecord(random=bytes(10), time=1_767_225_600.0, name="paid", properties=properties, **fields)
    return QueuedRecord(record, CONTEXT, 5.0)


def signup(**fields: Any) -> QueuedRecord:
    return QueuedRecord(
        Goal(random=bytes(10), time=0, goal_id="signups", direction="increment", **fields), CONTEXT, 5.0
    )


def test_the_callback_receives_the_record_and_the_destination() -> None:
    seen: list[Any] = []

    apply(lambda record, destination: seen.append((record, destination)), paid(), "signal")

    assert seen == [
        (
            {
                "kind": "event",
                "id": "019b76da-a800-7000-8000-000000000000",
                "timestamp": "2026-01-01T00:00:00.000Z",
                "user_id": "user_1",
                "session_id": "6f1d2c3b",
                "properties": {"amount": Decimal("49.90"), "card": "4242"},
                "name": "paid",
            },
            "signal",
        )
    ]


def test_an_unchanged_record_is_sent_unchanged() -> None:
    entry = paid(groups={"company": "acme"}, standard=True, key="k")

    returned = apply(lambda record, destination: record, entry, "signal")

    assert returned is not None
    assert returned.record == replace(entry.record, user_id="user_1")
    assert returned.context == entry.context
    assert returned.enqueued_at == 5.0


def test_returning_none_drops_the_record() -> None:
    assert apply(lambda record, destination: None, paid(), "signal") is None


def test_name_properties_and_user_can_be_changed_without_changing_the_original() -> None:
    entry = paid()

    def change(record: dict[str, Any], destination: str) -> dict[str, Any]:
        del record["properties"]["card"]
        return {**record, "name": "order paid", "user_id": 7}

    changed = apply(change, entry, "signal")

    assert changed is not None
    assert isinstance(changed.record, EventRecord)
    assert changed.record.name == "order paid"
    assert changed.record.properties == b'{"amount":49.90}'
    assert changed.user_id == "7"
    assert entry.record.properties == b'{"amount":49.90,"card":"4242"}'


@pytest.mark.parametrize("nobody", [{"user_id": None}, {"user_id": ""}, {}])
def test_a_removed_user_is_also_removed_from_the_context(nobody: dict[str, Any]) -> None:
    def forget(record: dict[str, Any], destination: str) -> dict[str, Any]:
        del record["user_id"]
        return {**record, **nobody}

    changed = apply(forget, paid(user_id="user_2"), "signal")

    assert changed is not None
    assert changed.user_id is None
    assert changed.context.sessionsight.session_id == "6f1d2c3b"


def test_the_amount_of_a_goal_can_be_changed() -> None:
    changed = apply(lambda record, destination: {**record, "amount": Decimal("0.5")}, signup(amount=49), "sessionsight")

    assert changed is not None
    assert isinstance(changed.record, Goal)
    assert changed.record.amount == Decimal("0.5")


@pytest.mark.parametrize("amount", [0, -1, True, "1", float("nan")])
def test_an_invalid_amount_of_a_goal_is_an_error(amount: Any) -> None:
    with pytest.raises(CaptureError):
        apply(lambda record, destination: {**record, "amount": amount}, signup(), "sessionsight")


def test_feedback_has_its_type_and_its_answer_can_be_changed() -> None:
    nps = FeedbackRecord(random=bytes(10), time=0, feedback_type_id="nps", properties=b'{"message":"my name"}')

    def shorten(record: dict[str, Any], destination: str) -> dict[str, Any]:
        assert (record["kind"], record["feedback_type_id"]) == ("feedback", "nps")
        return {**record, "properties": {"message": record["properties"]["message"][:2]}}

    changed = apply(shorten, QueuedRecord(nps, CONTEXT, 5.0), "sessionsight")

    assert changed is not None
    assert changed.record.properties == b'{"message":"my"}'


def test_an_identification_has_neither_name_nor_amount() -> None:
    entry = QueuedRecord(Identify(random=bytes(10), time=0, properties=b'{"plan":"pro"}'), CONTEXT)

    changed = apply(lambda record, destination: {"properties": {"seen": sorted(record)}}, entry, "signal")

    assert changed is not None
    assert changed.record.properties == b'{"seen":["id","kind","properties","session_id","timestamp","user_id"]}'


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": None},
        {"name": 5},
        {"properties": "text"},
        {"user_id": ["u"]},
        {"user_id": True},
    ],
)
def test_a_result_that_cannot_be_sent_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(CaptureError):
        apply(lambda record, destination: {**record, **wrong}, paid(), "signal")


@pytest.mark.parametrize("nonsense", [True, "event", [], 5])
def test_a_result_that_is_not_a_mapping_is_an_error(nonsense: Any) -> None:
    with pytest.raises(CaptureError, match="must return a dict or None"):
        apply(lambda record, destination: nonsense, paid(), "signal")


def test_an_exception_of_the_callback_is_propagated() -> None:
    def fail(record: dict[str, Any], destination: str) -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        apply(fail, paid(), "signal")
