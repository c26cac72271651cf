import enum
import gc
import logging
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.utils.safestring import SafeString

from sessionsight import (
    Analytics,
    CheckoutFinished,
    InvalidEventError,
    InvalidPropertiesError,
    TrackingContext,
    TrialStarted,
)
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import Alias, EventRecord, Group, Identify, PersonProperties
from sessionsight.capture.scope import RequestScope
from sessionsight.destinations.serialization import rfc3339
from tests.core.box import Recorder, Visit

MakeRecorder = Callable[..., Recorder]
COOKIE = "ss_sid=session-1"


def visit(recorder: Recorder, request: object = COOKIE, **facts: Any) -> Analytics:
    """The analytics of a request that is being served."""
    return Analytics(RequestScope(recorder.client, Visit(request, **facts)))


# --- the capturing calls -----------------------------------------------------------------------------


def test_an_event_has_a_name_properties_and_groups(recorder: Recorder) -> None:
    recorder.client.analytics.capture("order_processed", {"amount": Decimal("49.90")}, groups={"company": 5})
    [event] = recorder.records()
    assert isinstance(event, EventRecord)
    assert (event.name, event.properties, event.groups) == ("order_processed", b'{"amount":49.90}', {"company": "5"})
    assert not event.standard


def test_every_other_call_makes_its_record(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    analytics.identify("user_2", {"plan": "pro"})
    analytics.alias("anonymous_1")
    analytics.group("company", uuid.UUID(int=1), {"name": "Acme"})
    analytics.set_person_properties({"plan": "pro"})
    analytics.set_person_properties_once({"first_plan": "free"})
    identify, alias, group, person, once = recorder.records()
    assert isinstance(identify, Identify)
    assert (identify.user_id, identify.properties) == ("user_2", b'{"plan":"pro"}')
    assert isinstance(alias, Alias)
    assert alias.alias == "anonymous_1"
    assert isinstance(group, Group)
    assert (group.group_type, group.group_key) == ("company", str(uuid.UUID(int=1)))
    assert decode(group.properties) == {"name": "Acme"}
    assert isinstance(person, PersonProperties)
    assert (person.once, person.properties) == (False, b'{"plan":"pro"}')
    assert isinstance(once, PersonProperties)
    assert (once.once, once.properties) == (True, b'{"first_plan":"free"}')


def test_every_call_takes_the_call_options(recorder: Recorder) -> None:
    analytics = recorder.client.analytics
    options: Any = {
        "distinct_id": "d1",
        "anonymous_id": uuid.UUID(int=2),
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "key": "k1",
        "destinations": ["box"],
    }
    analytics.capture("x", user_id=5, **options)
    analytics.identify(5, **options)
    analytics.alias("a", user_id=5, **options)
    analytics.group("company", "acme", user_id=5, **options)
    analytics.set_person_properties({}, user_id=5, **options)
    analytics.set_person_properties_once({}, user_id=5, **options)
    records = recorder.records()
    assert len(records) == 5, "the two calls of set_person_properties share kind, name and key"
    for record in records:
        assert (record.user_id, record.distinct_id, record.anonymous_id) == ("5", "d1", str(uuid.UUID(int=2)))
        assert (record.time, record.key, record.destinations) == (1767225600.0, "k1", frozenset({"box"}))


@pytest.fixture
def _far_from_greenwich() -> Iterator[None]:
    """A host whose clock shows another time than UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2026, 1, 1),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    ],
)
@pytest.mark.usefixtures("_far_from_greenwich")
def test_a_timestamp_without_a_zone_is_utc(recorder: Recorder, timestamp: datetime) -> None:
    recorder.client.analytics.capture("x", timestamp=timestamp)
    assert recorder.records()[0].time == 1767225600.0


@pytest.mark.parametrize("timestamp", [datetime.min, datetime(9999, 12, 31, 23, 59, 59)])
def test_every_timestamp_that_is_taken_can_be_written(recorder: Recorder, timestamp: datetime) -> None:
    recorder.client.analytics.capture("x", timestamp=timestamp)
    assert rfc3339(recorder.records()[0].time) == f"{timestamp.isoformat()}.000Z"


def test_a_record_has_the_time_of_its_capture_and_random_bits_of_its_own(recorder: Recorder) -> None:
    before = datetime.now(UTC).timestamp()
    analytics = recorder.client.analytics
    for _ in range(2):
        analytics.capture("x")
    first, second = recorder.records()
    assert before <= first.time <= second.time <= datetime.now(UTC).timestamp()
    assert len(first.random) == 10
    assert first.random != second.random


class Name(str, enum.Enum):  # noqa: UP042  # as written before Python 3.11
    PAID = "order_paid"


def test_enums_and_safe_strings_are_plain_text_in_a_record(recorder: Recorder) -> None:
    analytics = recorder.client.analytics
    analytics.capture(Name.PAID, groups={SafeString("company"): Name.PAID}, user_id=SafeString("u1"), key=Name.PAID)
    analytics.goals.increment(SafeString("signups"), session_id=SafeString("s1"), destinations=SafeString("box"))
    goal, event = sorted(recorder.records(), key=lambda record: record.kind, reverse=True)
    for record in (event, goal):
        for text in (record.label, record.key or "", record.user_id or "", *(record.destinations or ())):
            assert type(text) is str
    assert (event.label, event.key, event.user_id) == ("order_paid", "order_paid", "u1")
    assert event.groups == {"company": "order_paid"}  # type: ignore[attr-defined]


def test_what_the_caller_changes_later_changes_nothing(recorder: Recorder) -> None:
    analytics = visit(recorder)
    properties = {"items": ["a"]}
    groups = {"company": "a"}
    analytics.capture("x", properties, groups=groups)
    properties["items"].append("b")
    groups["company"] = "b"
    analytics._scope.end()
    [event] = recorder.records()
    assert (event.properties, event.groups) == (b'{"items":["a"]}', {"company": "a"})  # type: ignore[attr-defined]


class Missing(datetime):
    """A time that has no place on the calendar."""

    def replace(self, **_: Any) -> "Missing":  # type: ignore[override]
        return self

    def timestamp(self) -> float:
        return float("nan")


# --- wrong calls ---------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda a: a.capture(""), InvalidEventError, "an event's name must be a string that is not blank, not ''"),
    (lambda a: a.capture(None), InvalidEventError, "an event's name must be a string that is not blank, not None"),
    (lambda a: a.capture({"name": "secret"}), InvalidEventError, "not blank, not a dict"),
    (
        lambda a: a.capture("x", ["a"]),
        InvalidPropertiesError,
        "properties must be a mapping of names to values, not list",
    ),
    (lambda a: a.capture("x", {"a": nested()}), InvalidPropertiesError, "contain themselves"),
    (lambda a: a.capture("x", {"a": "b" * 70_000}), InvalidPropertiesError, "take 70008 bytes as JSON, and 65536"),
    (lambda a: a.capture("x", groups=["a"]), InvalidEventError, "groups must be a mapping of group types"),
    (lambda a: a.capture("x", groups={"company": None}), InvalidEventError, "group 'company' needs a key"),
    (lambda a: a.capture("x", groups={"": "a"}), InvalidEventError, "a group's type must be a string"),
    (lambda a: a.capture("x", user_id=True), InvalidEventError, "user_id must be a string of at most 256"),
    (lambda a: a.capture("x", user_id="a" * 257), InvalidEventError, "an integer or a UUID, not 257 characters"),
    (lambda a: a.capture("x", user_id="a\nb"), InvalidEventError, "printable characters"),
    (lambda a: a.capture("x", user_id=object()), InvalidEventError, "not object"),
    (lambda a: a.capture("x", user_id=10**5000), InvalidEventError, "not int"),
    (lambda a: a.capture("x", distinct_id=[]), InvalidEventError, "distinct_id must be"),
    (lambda a: a.capture("x", anonymous_id=1.5), InvalidEventError, "anonymous_id must be"),
    (lambda a: a.capture("x", timestamp="now"), InvalidEventError, "timestamp must be a datetime, not str"),
    (lambda a: a.capture("x", timestamp=datetime.max), InvalidEventError, "years 1 to 9999 of UTC, not 9999-12-31 23:"),
    (
        lambda a: a.capture("x", timestamp=datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
        InvalidEventError,
        "timestamp must be in the years 1 to 9999 of UTC",
    ),
    (lambda a: a.identify("u", timestamp=Missing(1, 1, 1)), InvalidEventError, "timestamp must be in the years"),
    (lambda a: a.capture("x", key=" "), InvalidEventError, "key must be a string that is not blank, not ' '"),
    (lambda a: a.capture("x", key=5), InvalidEventError, "key must be a string that is not blank, not 5"),
    (lambda a: a.capture("x", userid="u"), InvalidEventError, "unknown argument 'userid'; did you mean 'user_id'"),
    (
        lambda a: a.capture("x", order_id=1),
        InvalidEventError,
        "unknown argument 'order_id'.*properties go into a mapping",
    ),
    (
        lambda a: a.capture("x", destinations="signl"),
        InvalidEventError,
        "unknown destination 'signl'; did you mean 'signal'",
    ),
    (
        lambda a: a.capture("x", destinations=["bax"]),
        InvalidEventError,
        "unknown destination 'bax'; did you mean 'box'",
    ),
    (lambda a: a.capture("x", destinations=[[]]), InvalidEventError, "unknown destination a list; known are"),
    (lambda a: a.capture("x", destinations=5), InvalidEventError, "destinations must be names of destinations, not 5"),
    (lambda a: a.identify(object()), InvalidEventError, "user_id must be"),
    (lambda a: a.identify("u", 5), InvalidPropertiesError, "properties must be a mapping"),
    (lambda a: a.alias(None), InvalidEventError, "alias must be the earlier id of the person, not None"),
    (lambda a: a.alias(""), InvalidEventError, "alias must be the earlier id of the person, not ''"),
    (lambda a: a.group("", "x"), InvalidEventError, "a group's type must be"),
    (lambda a: a.group([], "x"), InvalidEventError, "a group's type must be"),
    (lambda a: a.group("company", None), InvalidEventError, "group 'company' needs a key"),
    (lambda a: a.set_person_properties("x"), InvalidPropertiesError, "properties must be a mapping"),
    (lambda a: a.set_person_properties_once("x"), InvalidPropertiesError, "properties must be a mapping"),
]


def nested() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=map(str, range(len(WRONG))))
def test_a_wrong_call_raises_in_strict_mode(
    recorder: Recorder, call: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(recorder.client.analytics)
    assert recorder.records() == []


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=map(str, range(len(WRONG))))
def test_a_wrong_call_is_counted_and_logged_with_the_callers_line_in_production(
    lenient: Recorder, caplog: pytest.LogCaptureFixture, call: Any, error: type[Exception], message: str
) -> None:
    call(lenient.client.analytics)
    assert lenient.records() == []
    assert lenient.client.stats().rejected == 1
    [logged] = caplog.records
    line = call.__code__.co_firstlineno
    assert logged.levelno == logging.WARNING
    assert logged.getMessage().startswith(f"{__file__}:{line}: ")
    assert logged.getMessage().endswith("; nothing was captured")
    assert re.search(message, logged.getMessage())


def test_a_wrong_call_leaves_the_others_alone(lenient: Recorder) -> None:
    analytics = visit(lenient)
    analytics.capture("before")
    analytics.capture("")
    analytics.capture("after")
    analytics._scope.end()
    assert list(lenient.events()) == ["before", "after"]


def test_a_fault_of_our_own_is_logged_as_an_error_and_reaches_no_view(
    lenient: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(properties: object) -> bytes:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(lenient.client, "encode_event", broken)
    lenient.client.analytics.capture("x")
    assert lenient.client.stats().rejected == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert "internal error, ZeroDivisionError: oh" in caplog.text


def test_a_vendor_that_is_not_configured_here_may_be_named(recorder: Recorder) -> None:
    recorder.client.analytics.capture("x", destinations=["signal"])
    recorder.client.analytics.capture("y", destinations=["signal", "box"])
    assert list(recorder.events()) == ["y"]


def test_a_record_goes_only_to_the_destinations_it_names(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("one", "two", strict=True)
    recorder.client.analytics.capture("both")
    recorder.client.analytics.capture("second", destinations="two")
    assert [entry.record.label for entry in recorder.entries("one")] == ["both"]
    assert sorted(entry.record.label for entry in recorder.entries("two")) == ["both", "second"]


# --- typed events --------------------------------------------------------------------------------------


def test_a_typed_event_brings_its_name_and_properties(recorder: Recorder) -> None:
    event = CheckoutFinished(payment_type="one_time", amount=4900, currency="usd", extra={"shop": "a"})
    recorder.client.analytics.capture(event, {"shop": "b"})
    [record] = recorder.records()
    assert isinstance(record, EventRecord)
    assert record.standard
    assert record.name == "checkout_finished"
    assert decode(record.properties) == {"shop": "b", "payment_type": "one_time", "amount": 4900, "currency": "USD"}


def test_a_typed_event_with_a_problem_raises_in_strict_mode(recorder: Recorder) -> None:
    with pytest.raises(InvalidEventError, match="trial_started: trial_days must be a number, not '14'"):
        recorder.client.analytics.capture(TrialStarted(plan="pro", trial_days="14"))  # type: ignore[arg-type]
    assert recorder.records() == []


def test_a_typed_event_with_a_problem_is_sent_all_the_same_in_production(
    lenient: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    lenient.client.analytics.capture(TrialStarted(plan="pro", trial_days="14"))  # type: ignore[arg-type]
    assert lenient.events() == {"trial_started": {"plan": "pro", "trial_days": "14"}}
    assert lenient.client.stats().rejected == 0
    assert f"{__file__}:" in caplog.text
    assert "trial_days must be a number" in caplog.text


def test_properties_beside_a_typed_event_are_a_mapping(recorder: Recorder) -> None:
    with pytest.raises(InvalidPropertiesError, match="not a list"):
        recorder.client.analytics.capture(TrialStarted(plan="pro", trial_days=14), ["x"])  # type: ignore[arg-type]


# --- tags ----------------------------------------------------------------------------------------------


def test_tags_are_on_every_later_event_and_an_events_own_properties_go_before_them(recorder: Recorder) -> None:
    analytics = visit(recorder)
    analytics.capture("before")
    analytics.tag(shop="a", lang="en")
    analytics.tag(lang="de")
    analytics.capture("plain")
    analytics.capture("own", {"shop": "b"})
    analytics.capture(TrialStarted(plan="pro", trial_days=14))
    analytics.identify("user_1")
    analytics._scope.end()
    assert recorder.events() == {
        "before": {},
        "plain": {"shop": "a", "lang": "de"},
        "own": {"shop": "b", "lang": "de"},
        "trial_started": {"shop": "a", "lang": "de", "plan": "pro", "trial_days": 14},
    }
    assert [record.properties for record in recorder.records() if isinstance(record, Identify)] == [b"{}"]


# --- who it is -----------------------------------------------------------------------------------------


def test_identify_completes_earlier_records_and_changes_no_explicit_one(recorder: Recorder) -> None:
    analytics = visit(recorder)
    analytics.capture("nobody")
    analytics.capture("explicit", user_id="other")
    analytics.identify("user_1")
    analytics.capture("later")
    analytics._scope.end()
    assert recorder.users() == ["user_1", "other", "user_1", "user_1"]


def test_identify_takes_precedence_over_the_frameworks_user(recorder: Recorder) -> None:
    analytics = visit(recorder, user="signed-in")
    analytics.capture("seen")
    analytics.identify("user_1")
    analytics.capture("later")
    analytics._scope.end()
    assert recorder.users() == ["signed-in", "user_1", "user_1"]


def test_identify_without_an_id_is_about_the_signed_in_user(recorder: Recorder) -> None:
    analytics = visit(recorder, user="signed-in")
    analytics.identify(traits={"plan": "pro"})
    analytics._scope.end()
    assert recorder.users() == ["signed-in"]


def test_a_wrong_identify_identifies_nobody(lenient: Recorder) -> None:
    analytics = visit(lenient)
    analytics.identify("user_1", {"a": nested()})
    analytics.capture("x")
    analytics._scope.end()
    assert lenient.users() == [None]


def test_a_user_seen_at_the_capture_survives_the_logout(recorder: Recorder) -> None:
    request = Visit(user="user_1")
    analytics = Analytics(RequestScope(recorder.client, request))
    analytics.capture("logged_out")
    request.user = None
    analytics._scope.end()
    assert recorder.users() == ["user_1"]


def test_a_login_after_the_capture_completes_it(recorder: Recorder) -> None:
    request = Visit()
    analytics = Analytics(RequestScope(recorder.client, request))
    analytics.capture("logged_in")
    request.user = "user_1"
    analytics._scope.end()
    assert recorder.users() == ["user_1"]


def test_another_login_gives_each_record_the_user_of_its_moment(recorder: Recorder) -> None:
    request = Visit(user="user_1")
    analytics = Analytics(RequestScope(recorder.client, request))
    analytics.capture("first")
    request.user = "user_2"
    analytics.capture("second")
    analytics._scope.end()
    assert recorder.users() == ["user_1", "user_2"]


def test_a_bound_user_takes_precedence_over_the_contexts(recorder: Recorder) -> None:
    recorder.client.bind(TrackingContext(user_id="context"), user_id="bound").capture("x")
    recorder.client.bind(TrackingContext(user_id="context")).capture("y")
    assert recorder.users() == ["bound", "context"]


# --- the context ---------------------------------------------------------------------------------------


def test_the_context_shows_what_is_known_of_the_request(recorder: Recorder) -> None:
    request = Visit({"headers": {"cookie": COOKIE, "host": "shop.example"}})
    analytics = Analytics(RequestScope(recorder.client, request))
    assert analytics.context.session_id == "session-1"
    assert (analytics.context.user_id, analytics.context.page.route) == (None, None)
    request.user, request.matched = "user_1", "/orders/<id>"
    assert (analytics.context.user_id, analytics.context.page.route) == ("user_1", "/orders/<id>")
    assert analytics.context.page.hostname == "shop.example"
    analytics.identify("user_2")
    assert analytics.context.user_id == "user_2"


def test_a_request_is_read_once_and_only_when_it_is_needed(recorder: Recorder) -> None:
    request = Visit(COOKIE)
    analytics = Analytics(RequestScope(recorder.client, request))
    analytics.capture("x")
    assert not request.reads
    analytics._scope.end()
    assert analytics.context.session_id == "session-1"
    analytics._scope.close()
    assert len(request.reads) == 1


def test_all_records_of_a_request_share_its_context(recorder: Recorder) -> None:
    analytics = visit(recorder, route="/x")
    analytics.capture("a")
    analytics.goals.increment("signups")
    analytics._scope.end()
    first, second = recorder.entries()
    assert first.context is second.context
    assert first.context.page.route == "/x"
    assert first.context.session_id == "session-1"


# --- the end of the response ---------------------------------------------------------------------------


def test_nothing_is_handed_over_before_the_end(recorder: Recorder) -> None:
    analytics = visit(recorder)
    pending = [analytics._scope.has_pending]
    analytics.capture("x")
    pending.append(analytics._scope.has_pending)
    assert recorder.records() == []
    analytics._scope.end()
    pending.append(analytics._scope.has_pending)
    assert pending == [False, True, False]
    assert len(recorder.records()) == 1


def test_records_keep_their_order(recorder: Recorder) -> None:
    analytics = visit(recorder)
    for number in range(50):
        analytics.capture(f"event_{number}")
    analytics._scope.end()
    assert list(recorder.events()) == [f"event_{number}" for number in range(50)]


@pytest.mark.parametrize("end", ["end", "end_before_last_byte", "close"])
def test_ending_twice_is_harmless(recorder: Recorder, end: str) -> None:
    analytics = visit(recorder)
    analytics.capture("x")
    for _ in range(2):
        getattr(analytics._scope, end)()
    analytics._scope.close()
    analytics._scope.end()
    assert list(recorder.events()) == ["x"]


@pytest.mark.parametrize("end", ["end", "end_before_last_byte", "close"])
def test_a_capture_after_the_end_is_handed_over_at_once_under_the_same_context(recorder: Recorder, end: str) -> None:
    analytics = visit(recorder, user="user_1")
    getattr(analytics._scope, end)()
    analytics.capture("late")
    [entry] = recorder.entries()
    assert (entry.context.session_id, entry.user_id) == ("session-1", "user_1")


def test_a_released_request_is_let_go_and_its_ids_are_kept(recorder: Recorder) -> None:
    class Request(Visit):
        pass

    request = Request(COOKIE, user="user_1", route="/x")
    analytics = Analytics(RequestScope(recorder.client, request))
    gone = weakref.ref(request)
    analytics._scope.close()
    del request
    gc.collect()
    assert gone() is None
    assert analytics.context.session_id == "session-1"
    assert (analytics.context.user_id, analytics.context.page.route) == ("user_1", "/x")


def test_a_discarded_record_is_counted_and_the_next_one_is_sent(recorder: Recorder) -> None:
    analytics = visit(recorder)
    analytics.discard()
    analytics.capture("a")
    analytics.goals.increment("b")
    analytics.discard()
    analytics.capture("c")
    analytics._scope.end()
    assert list(recorder.events()) == ["c"]
    assert recorder.dropped() == {"discarded": 2}


def test_an_error_while_discarding_is_logged(
    lenient: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    analytics = visit(lenient)
    analytics.capture("a")
    monkeypatch.setattr(type(lenient.client), "submit", fail)

    analytics.discard()

    assert "RuntimeError" in caplog.text


def test_flush_waits_for_what_has_been_captured(recorder: Recorder) -> None:
    analytics = visit(recorder)
    analytics.capture("x")
    assert analytics.flush(10)
    assert len(recorder.box.entries["box"]) == 1


async def test_aflush_does_the_same_without_blocking_the_loop(recorder: Recorder) -> None:
    analytics = visit(recorder)
    analytics.capture("x")
    assert await analytics.aflush(10)
    assert len(recorder.box.entries["box"]) == 1


def test_finish_delivers_before_the_response_ends_when_asked_to(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(flush="inline")
    analytics = visit(recorder)
    analytics.capture("x")
    analytics._scope.end_before_last_byte()
    assert len(recorder.box.entries["box"]) == 1


def test_threads_that_capture_while_the_response_ends_lose_and_double_nothing(recorder: Recorder) -> None:
    threads, each = 8, 50
    for end in ("end", "close", "end_before_last_byte"):
        analytics = visit(recorder, user="user_1")
        start = threading.Barrier(threads + 1)

        def work(
            thread: int, analytics: Analytics = analytics, start: threading.Barrier = start, end: str = end
        ) -> None:
            start.wait()
            for number in range(each):
                analytics.capture(f"{end} {thread} {number}")

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        start.wait()
        getattr(analytics._scope, end)()
        for worker in workers:
            worker.join()
    names = [entry.record.label for entry in recorder.entries()]
    assert sorted(names) == sorted(
        f"{e} {t} {n}" for e in ("end", "close", "end_before_last_byte") for t in range(threads) for n in range(each)
    )
    assert {entry.context.session_id for entry in recorder.entries()} == {"session-1"}
    assert set(recorder.users()) == {"user_1"}


# --- The look at a request ---------------------------------------------------------------------------


def test_a_frameworks_user_whose_id_no_vendor_takes_is_nobody(lenient: Recorder) -> None:
    analytics = Analytics(RequestScope(lenient.client, Visit(COOKIE, user="a" * 300)))
    analytics._scope.close()
    analytics.capture("late")
    assert lenient.users() == [None]


def test_who_signs_in_after_an_early_look_is_known_to_what_is_captured_late(recorder: Recorder) -> None:
    visit = Visit(COOKIE)
    analytics = Analytics(RequestScope(recorder.client, visit))
    assert analytics.context.user_id is None
    visit.user = "ada"
    analytics._scope.close()
    analytics.capture("late")
    assert recorder.users() == ["ada"]


def test_an_empty_anonymous_id_stays_for_the_vendor_that_refuses_it(recorder: Recorder) -> None:
    recorder.client.analytics.capture("Report Exported", user_id="u1", anonymous_id="")
    recorder.client.bind(anonymous_id="", user_id="u1").capture("Report Exported")
    assert [record.anonymous_id for record in recorder.records()] == ["", ""]


def test_an_array_as_anonymous_id_is_a_wrong_call_and_no_exception(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(strict=False)
    array: Any = np.array(["a1", "a2"])
    recorder.client.analytics.capture("lost", user_id="u1", anonymous_id=array)
    recorder.client.bind(user_id="u1", anonymous_id=array).capture("Report Exported")
    [record] = recorder.records()
    assert list(recorder.events()) == ["Report Exported"]
    assert (record.user_id, record.anonymous_id) == ("u1", None)
