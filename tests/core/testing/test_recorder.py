"""Recorders and their assertions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from unittest.mock import ANY

import pytest

from sessionsight import CheckoutFinished, Client, InvalidEventError, InvalidGoalError, Settings, TrackingContext
from sessionsight.request.context import SessionSightIds
from sessionsight.request.raw import RequestData
from sessionsight.testing import Recorder, allow_delivery, lenient, record, suppress_delivery
from tests.core import box


@pytest.fixture
def client() -> Client:
    return Client(Settings(strict=True))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with record() as recorder:
        yield recorder


def test_events_people_and_goals_are_recorded_in_order(client: Client, recorder: Recorder) -> None:
    context = TrackingContext(sessionsight=SessionSightIds(session_id="s1"))
    analytics = client.bind(context, user_id=7)
    analytics.capture("order_processed", {"order_id": 1})
    analytics.identify(traits={"plan": "pro"})
    analytics.goals.increment("monthly-revenue", amount=Decimal("49.90"))
    analytics.goals.decrement("monthly-revenue")
    analytics.alias("earlier")
    assert [one.name for one in recorder.captured] == [
        *("order_processed", "identify", "monthly-revenue", "monthly-revenue", "alias")
    ]
    [event] = recorder.events
    assert (event.name, event.properties, event.user_id, event.session_id) == (
        "order_processed",
        {"order_id": 1},
        "7",
        "s1",
    )
    assert [one.properties for one in recorder.identifies] == [{"plan": "pro"}]
    assert [(one.direction, one.amount) for one in recorder.goals] == [
        ("increment", Decimal("49.90")),
        ("decrement", 1),
    ]
    assert repr(recorder) == "<Recorder: 1 events, 1 identifies, 2 goals>"
    recorder.clear()
    recorder.assert_nothing_captured()


def test_clients_of_every_kind_and_thread_are_recorded() -> None:
    clients = [Client(Settings()), Client(Settings(disabled=True))]
    with record() as recorder:
        clients.append(Client(Settings(destinations=(box.BoxDestination(),)), make_transport=lambda _: box.Box()))
        for client in clients:
            thread = threading.Thread(target=client.analytics.capture, args=("seen",))
            thread.start()
            thread.join(10)
    assert [event.name for event in recorder.events] == ["seen"] * 3
    clients[0].analytics.capture("later")
    assert len(recorder.events) == 3


def test_nested_recorders_receive_all_records(client: Client, recorder: Recorder) -> None:
    with record() as inner:
        client.analytics.capture("seen")
    client.analytics.capture("later")
    assert [event.name for event in inner.events] == ["seen"]
    assert [event.name for event in recorder.events] == ["seen", "later"]


def test_recorded_records_are_delivered_while_delivery_is_allowed() -> None:
    # This suite allows delivery in each of its tests.
    heap = box.Box()
    client = Client(Settings(destinations=(box.BoxDestination(),), linger=0), make_transport=lambda _: heap)
    with record() as recorder, allow_delivery(), suppress_delivery():
        client.analytics.capture("seen")
    recorder.assert_captured("seen")
    assert box.Recorder(client, heap).events() == {"seen": {}}


def test_dropped_records_are_not_in_captured() -> None:
    def refuse(_: RequestData) -> bool:
        return False

    client = Client(Settings(consent=refuse))
    with record() as recorder:
        client.for_request("ss_sid=s1").capture("seen")
    recorder.assert_nothing_captured()
    assert [(one.name, one.dropped) for one in recorder.dropped] == [("seen", "consent")]
    with pytest.raises(AssertionError, match=r"captured and dropped:\n    event 'seen' \(consent\)"):
        recorder.assert_captured("seen")


def test_an_event_matches_by_some_of_its_properties(client: Client, recorder: Recorder) -> None:
    client.analytics.capture("order_processed", {"order_id": "ord_1", "amount": Decimal("49.90"), "line-items": [1]})
    client.analytics.capture("order_processed", {"order_id": "ord_2", "self": 1, "event": 2}, user_id=5)
    assert recorder.assert_captured("order_processed").properties["order_id"] == "ord_1"
    assert recorder.assert_captured("order_processed", order_id="ord_2").user_id == "5"
    recorder.assert_captured("order_processed", {"line-items": ANY}, amount=49.9)
    recorder.assert_captured("order_processed", self=1, event=2)
    recorder.assert_not_captured("order_processed", order_id="ord_3")
    recorder.assert_not_captured("order_cancelled")
    with pytest.raises(AssertionError, match="order_id: expected 'ord_3', captured 'ord_1'"):
        recorder.assert_captured("order_processed", order_id="ord_3")
    with pytest.raises(AssertionError, match=r"was captured\n\ncaptured:\n.*'ord_2'"):
        recorder.assert_not_captured("order_processed", order_id="ord_2")


def test_a_typed_event_matches_as_it_is_captured(client: Client, recorder: Recorder) -> None:
    event = CheckoutFinished(payment_type="one_time", amount=4900, currency="usd")
    client.analytics.capture(event, {"campaign": "spring"})
    recorder.assert_captured(event, campaign="spring")
    with pytest.raises(AssertionError, match="amount: expected 4901, captured 4900"):
        recorder.assert_captured(CheckoutFinished(payment_type="one_time", amount=4901))


def test_a_person_matches_by_id_and_traits(client: Client, recorder: Recorder) -> None:
    client.analytics.identify(7, {"plan": "pro", "seats": 3})
    recorder.assert_identified()
    recorder.assert_identified(7, plan="pro")
    recorder.assert_identified("7", seats=3)
    with pytest.raises(AssertionError, match="user_id: expected '8', captured '7'"):
        recorder.assert_identified(8)
    with pytest.raises(AssertionError, match="plan: expected 'free', captured 'pro'"):
        recorder.assert_identified(plan="free")


def test_a_goal_matches_by_amount_direction_session_and_metadata(client: Client, recorder: Recorder) -> None:
    client.analytics.goals.increment("monthly-revenue", amount=49, session_id="s1", metadata={"plan": "pro"})
    recorder.assert_goal("monthly-revenue", amount=49)
    recorder.assert_goal("monthly-revenue", Decimal(49), session_id="s1", metadata={"plan": "pro"})
    for wrong, message in [
        ({"amount": 50}, "amount: expected 50, captured 49"),
        ({"direction": "decrement"}, "direction: expected 'decrement', captured 'increment'"),
        ({"session_id": "s2"}, "session_id: expected 's2', captured 's1'"),
        ({"metadata": {"plan": "free"}}, "plan: expected 'free', captured 'pro'"),
    ]:
        with pytest.raises(AssertionError, match=message):
            recorder.assert_goal("monthly-revenue", **wrong)  # type: ignore[arg-type]


@pytest.mark.processes
def test_nothing_is_delivered_while_recording() -> None:
    # In a new process, because this suite allows delivery.
    program = "from sessionsight.testing import record; from sessionsight.test_mode import test_mode as d\n"
    program += "with record(): print(d.suppressed)\nprint(d.suppressed)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_an_event_does_not_match_a_goal_or_an_identification(client: Client, recorder: Recorder) -> None:
    client.analytics.capture("signup", user_id=7)
    with pytest.raises(AssertionError, match="no matching identify"):
        recorder.assert_identified(7)
    with pytest.raises(AssertionError, match="no matching goal"):
        recorder.assert_goal("signup")
    with pytest.raises(AssertionError, match=r"1 captured\n\ncaptured:\n    event 'signup'"):
        recorder.assert_nothing_captured()


# --- keys ----------------------------------------------------------------------------------------


def captured(recorder: Recorder) -> list[tuple[str, str | None]]:
    return [(one.name, one.dropped) for one in (*recorder.captured, *recorder.dropped)]


def test_a_second_record_with_the_same_key_is_a_duplicate(client: Client, recorder: Recorder) -> None:
    for _ in range(3):
        client.analytics.capture("order_paid", {"order_id": 1}, key="order:1:paid")
    client.analytics.capture("order_paid", {"order_id": 2}, key="order:2:paid")
    client.analytics.capture("order_paid", {"order_id": 1})
    assert [one.properties["order_id"] for one in recorder.events] == [1, 2, 1]
    assert [one.dropped for one in recorder.dropped] == ["duplicate", "duplicate"]
    recorder.assert_dropped("order_paid", "duplicate", order_id=1)
    recorder.clear()
    client.analytics.capture("order_paid", key="order:2:paid")
    recorder.assert_nothing_captured()


def test_a_key_applies_to_one_kind_name_and_direction(client: Client, recorder: Recorder) -> None:
    analytics = client.analytics
    analytics.capture("order", key="1")
    analytics.capture("refund", key="1")
    analytics.goals.increment("order", key="1")
    analytics.goals.decrement("order", key="1")
    assert (len(recorder.captured), recorder.dropped) == (4, [])
    analytics.goals.decrement("order", key="1")
    assert [(one.kind, one.dropped) for one in recorder.dropped] == [("goal", "duplicate")]


def test_a_key_applies_to_each_destination(recorder: Recorder) -> None:
    destinations = (box.BoxDestination("a"), box.BoxDestination("b"))
    analytics = Client(Settings(destinations=destinations)).analytics
    analytics.capture("seen", key="1", destinations=["a"])
    analytics.capture("seen", key="1")  # b has not had it yet
    analytics.capture("seen", key="1", destinations=["b"])
    assert captured(recorder) == [("seen", None), ("seen", None), ("seen", "duplicate")]


def test_dropped_records_do_not_use_their_key(recorder: Recorder) -> None:
    client = Client(Settings(consent="gpc"))
    client.for_request({"HTTP_SEC_GPC": "1", "REQUEST_METHOD": "GET"}).capture("seen", key="1")
    client.analytics.capture("seen", key="1")
    assert captured(recorder) == [("seen", None), ("seen", "consent")]


def test_each_recorder_has_its_own_keys(client: Client, recorder: Recorder) -> None:
    client.analytics.capture("seen", key="1")
    with record() as inner:
        client.analytics.capture("seen", key="1")
    assert captured(inner) == [("seen", None)]
    assert captured(recorder) == [("seen", None), ("seen", "duplicate")]


# --- what was dropped ----------------------------------------------------------------------------


def test_assert_dropped_checks_the_reason(recorder: Recorder) -> None:
    client = Client(Settings(consent="gpc", exclude_paths=("/health",)))
    client.for_request({"HTTP_SEC_GPC": "1", "REQUEST_METHOD": "GET"}).capture("refused", {"plan": "pro"})
    client.for_request({"PATH_INFO": "/health", "REQUEST_METHOD": "GET"}).goals.increment("checked")
    client.analytics.capture("sent", user_id=1)
    assert recorder.assert_dropped("refused", "consent", plan="pro").dropped == "consent"
    assert recorder.assert_dropped("checked", "excluded").kind == "goal"
    recorder.assert_dropped("checked")
    with pytest.raises(AssertionError) as failure:
        recorder.assert_dropped("sent", "consent")
    assert str(failure.value).splitlines() == [
        "'sent' was not dropped for the reason 'consent'",
        *("", "dropped:", "    event 'refused'  {plan='pro'} (consent)"),
        "    goal 'checked'  direction='increment', amount=1 (excluded)",
        *("", "captured:", "    event 'sent'  user_id='1'"),
    ]
    with pytest.raises(AssertionError, match="'refused' was not dropped for the reason 'excluded'"):
        recorder.assert_dropped("refused", "excluded")
    with pytest.raises(AssertionError, match="'refused' was not dropped\n"):
        recorder.assert_dropped("refused", plan="free")
    with pytest.raises(ValueError, match="'duplicat'; did you mean 'duplicate'"):
        recorder.assert_dropped("refused", "duplicat")


def test_a_vendor_that_skips_a_record_is_shown_with_the_reason(recorder: Recorder) -> None:
    analytics = Client(Settings()).analytics
    analytics.goals.increment("signups")
    analytics.capture("seen")
    analytics.capture("seen_by_user", user_id=1)
    assert recorder.assert_dropped("signups", "no_session").skipped == {"sessionsight": "no_session"}
    assert recorder.assert_dropped("seen", "no_identity").skipped["analyse"] == "no_identity"
    assert recorder.assert_captured("seen_by_user").skipped == {}
    recorder.assert_goal("signups")  # without the ids of a browser, the record still counts as captured
    with pytest.raises(AssertionError, match=r"goal 'signups'.* \(sessionsight: no_session\)"):
        recorder.assert_dropped("signups", "consent")


def test_only_destinations_of_the_client_and_the_call_are_considered(recorder: Recorder) -> None:
    options = {"destinations": {"analyse": {"public_key": "k"}, "saytics": {"secret_key": "k"}}}
    analytics = Client(Settings.from_mapping(options)).analytics
    analytics.capture("seen", destinations=["analyse"])
    analytics.goals.increment("signups")
    assert recorder.assert_captured("seen").skipped == {"analyse": "no_identity"}
    assert recorder.assert_goal("signups").skipped == {}


# --- wrong calls ---------------------------------------------------------------------------------


def test_an_invalid_call_raises_while_recording() -> None:
    client = Client(Settings(strict=False))
    client.analytics.capture("")
    with record() as recorder:
        with pytest.raises(InvalidEventError):
            client.analytics.capture("")
        with pytest.raises(InvalidGoalError):
            client.analytics.goals.increment("signups", amount=0)
        with pytest.raises(InvalidEventError):
            client.bind(user_id=object())
        with lenient():
            client.analytics.capture("")
        with pytest.raises(InvalidEventError):
            client.analytics.capture("")
    client.analytics.capture("")
    recorder.assert_nothing_captured()
    assert client.stats().rejected == 3


@lenient()
def test_lenient_decorates_a_test_of_production_behaviour(recorder: Recorder) -> None:
    client = Client(Settings())
    client.analytics.capture("")
    assert client.stats().rejected == 1
    with pytest.raises(InvalidEventError):
        Client(Settings(strict=True)).analytics.capture("")
