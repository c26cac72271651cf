import gc
import logging
import re
import threading
import uuid
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from django.utils.safestring import SafeString

from sessionsight import (
    Analytics,
    Client,
    ConfigurationError,
    InvalidEventError,
    Page,
    SessionSightIds,
    Settings,
    SignalIds,
    TrackingContext,
    configure,
)
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import DropReason, EventRecord
from sessionsight.capture.scope import RequestScope
from sessionsight.request.context import EMPTY_CONTEXT, OPTED_OUT
from sessionsight.request.raw import HeaderNames, RequestData
from tests.core.box import BoxDestination, Recorder, Visit

MakeRecorder = Callable[..., Recorder]
COOKIE = "ss_sid=session-1; ss_vid=visitor-1"


def serve(recorder: Recorder, request: object = COOKIE, *, kind: type[Visit] = Visit, **facts: Any) -> Analytics:
    """Capture an event in a request, and end it."""
    analytics = Analytics(RequestScope(recorder.client, kind(request, **facts)))
    analytics.capture("x")
    analytics._scope.end()
    return analytics


def test_an_encoder_works_without_the_client_that_logs_for_it() -> None:
    encoder = Client(Settings()).encoder
    gc.collect()
    assert decode(encoder({"value": threading.Lock()})) == {"value": "<lock>"}


# --- bind ----------------------------------------------------------------------------------------------


def test_a_bound_context_and_its_ids_are_on_every_record(recorder: Recorder) -> None:
    context = TrackingContext(sessionsight=SessionSightIds(session_id="session-1"), page=Page(path="/x"))
    analytics = recorder.client.bind(context, user_id=7, distinct_id="d1", anonymous_id="a1")
    analytics.capture("x")
    analytics.capture("y", user_id="other", distinct_id="d2", anonymous_id="a2")
    first, second = recorder.entries()
    assert first.context == context.with_user("7")
    assert (first.user_id, first.record.distinct_id, first.record.anonymous_id) == ("7", "d1", "a1")
    assert (second.user_id, second.record.distinct_id, second.record.anonymous_id) == ("other", "d2", "a2")


def test_a_context_from_a_carrier_binds_unchanged(recorder: Recorder) -> None:
    analytics = Analytics(RequestScope(recorder.client, Visit(COOKIE, user="user_1", route="/checkout")))
    carrier = analytics.context.to_carrier()
    recorder.client.bind(TrackingContext.from_carrier(carrier)).capture("paid")
    [entry] = recorder.entries()
    assert entry.context == analytics.context
    assert entry.user_id == "user_1"


def test_an_invalid_id_in_bind_raises_in_strict_mode_only(
    recorder: Recorder, lenient: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidEventError, match="user_id must be"):
        recorder.client.bind(user_id=object())
    lenient.client.bind(user_id=object()).capture("x")
    assert lenient.users() == [None]
    assert f"{__file__}:" in caplog.text


HANDMADE = TrackingContext(
    sessionsight=SessionSightIds(session_id=uuid.UUID(int=1), visitor_id="visitor-1"),  # type: ignore[arg-type]
    signal=SignalIds(session_id="", window_id=7),  # type: ignore[arg-type]
    user_id=42,  # type: ignore[arg-type]
    page=Page(path=SafeString("/x")),
)


def test_ids_of_a_handwritten_context_are_converted_to_text(recorder: Recorder) -> None:
    recorder.client.bind(HANDMADE).capture("x")
    [entry] = recorder.entries()
    assert entry.context == TrackingContext(
        sessionsight=SessionSightIds(session_id=str(uuid.UUID(int=1)), visitor_id="visitor-1"),
        signal=SignalIds(window_id="7"),
        user_id="42",
        page=Page(path="/x"),
    )
    assert type(entry.context.page.path) is str


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"user_id": object()}, "context.user_id must be a string of at most 256 printable characters"),
        ({"anonymous_id": "a\nb"}, "context.anonymous_id must be a string"),
        ({"signal": SignalIds(distinct_id=b"x")}, "context.signal.distinct_id must be a string"),  # type: ignore[arg-type]
        (
            {"sessionsight": SessionSightIds(session_id="a b")},
            "context.sessionsight.session_id must be at most 128 letters, digits and hyphens, not 'a b'",
        ),
        ({"page": Page(path=5)}, "context.page.path must be a string, not 5"),  # type: ignore[arg-type]
        ({"signal": None}, r"context.signal must be SignalIds\(...\), not None"),
    ],
)
def test_invalid_values_of_a_context_count_as_missing(
    recorder: Recorder, lenient: Recorder, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any], message: str
) -> None:
    context = TrackingContext(**{"user_id": "user_1", "anonymous_id": "a1", **wrong})
    with pytest.raises(InvalidEventError, match=message):
        recorder.client.bind(context)
    lenient.client.bind(context).capture("x")
    [entry] = lenient.entries()
    ids: dict[str, Any] = {"user_id": "user_1", "anonymous_id": "a1"}
    assert entry.context == TrackingContext(**{name: value for name, value in ids.items() if name not in wrong})
    assert re.search(f"{re.escape(__file__)}:\\d+: {message}", caplog.text)


def test_a_carrier_is_rejected_as_a_context(recorder: Recorder, lenient: Recorder) -> None:
    carrier: Any = {"ss_sid": "session-1"}
    with pytest.raises(InvalidEventError, match=r"not a dict; TrackingContext\.from_carrier\(\) reads"):
        recorder.client.bind(carrier)
    lenient.client.bind(carrier, user_id="user_1").capture("x")
    assert lenient.users() == ["user_1"]


REFUSED: Any = {"ss_opted_out": "1", "ss_sid": "session-1", "ss_user_id": "user_1"}


@pytest.mark.parametrize(
    "context",
    [
        TrackingContext.from_carrier(REFUSED),
        TrackingContext(user_id="user_1", opted_out=True),
        REFUSED,  # the carrier itself, by mistake
    ],
    ids=["carrier", "handmade", "mistake"],
)
def test_records_without_consent_are_dropped_even_for_a_named_user(lenient: Recorder, context: Any) -> None:
    analytics = lenient.client.bind(context, user_id="user_1", distinct_id="user_1", anonymous_id="a1")
    analytics.identify("user_1", {"plan": "pro"})
    analytics.capture("x", user_id="user_1", destinations="box")
    analytics.goals.increment("signups", session_id="session-1")
    assert analytics.context == OPTED_OUT
    assert lenient.records() == []
    assert lenient.dropped() == {"consent": 3}


def test_missing_consent_takes_precedence_over_other_drop_reasons(recorder: Recorder) -> None:
    analytics = Analytics._for_context(recorder.client, OPTED_OUT, drop=DropReason.EXCLUDED)
    analytics.capture("x", user_id="user_1")
    assert recorder.dropped() == {"excluded": 1}


# --- for_request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        COOKIE,
        {"cookie": COOKIE},
        {"ss_sid": "session-1", "ss_vid": "visitor-1"},
        {"type": "http", "headers": [(b"cookie", COOKIE.encode())]},
        {"REQUEST_METHOD": "GET", "HTTP_COOKIE": COOKIE},
        {"headers": {"Cookie": COOKIE}},
    ],
)
def test_for_request_uses_the_requests_ids_and_submits_immediately(recorder: Recorder, request_: object) -> None:
    analytics = recorder.client.for_request(request_)
    analytics.capture("x")
    analytics.goals.increment("signups")
    ids = SessionSightIds(session_id="session-1", visitor_id="visitor-1")
    assert [entry.context.sessionsight for entry in recorder.entries()] == [ids, ids]


def test_for_request_without_a_request_has_no_ids(recorder: Recorder) -> None:
    recorder.client.for_request(None).capture("x")
    assert recorder.entries()[0].context == EMPTY_CONTEXT


def test_the_sites_anonymous_id_is_found_by_the_settings(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(anonymous_id_cookie="my_id", anonymous_id_header="X-My-Id")
    assert recorder.client.for_request("my_id=c1").context.anonymous_id == "c1"
    both = {"headers": {"cookie": "my_id=c1", "X-MY-ID": "h1"}}
    assert recorder.client.for_request(both).context.anonymous_id == "h1"


def test_the_clients_address_is_kept_only_if_enabled(make_recorder: MakeRecorder) -> None:
    environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "198.51.100.77"}
    assert make_recorder().client.for_request(environ).context.page.client_ip is None
    asked = make_recorder(client_ip="truncated", trusted_proxies=1)
    assert asked.client.for_request(environ).context.page.client_ip == "198.51.100.0"


# --- what is not captured ------------------------------------------------------------------------------


def test_without_consent_nothing_is_sent_and_no_id_is_kept(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(consent="gpc")
    refusing = {"headers": {"cookie": COOKIE, "sec-gpc": "1"}}
    assert serve(recorder, refusing).context.to_carrier() == {"ss_opted_out": "1"}
    recorder.client.for_request(refusing).capture("y")
    serve(recorder, {"headers": {"cookie": COOKIE}})
    assert list(recorder.events()) == ["x"]
    assert recorder.dropped() == {"consent": 2}


def test_a_consent_function_decides_by_the_request(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(consent=lambda data: "consent=yes" in data.headers.get("cookie", ""))
    serve(recorder)
    serve(recorder, "consent=yes")
    assert len(recorder.records()) == 1
    assert recorder.dropped() == {"consent": 1}


def test_a_consent_function_that_raises_counts_as_a_refusal(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder(consent=lambda data: 1 / 0)
    serve(recorder)
    assert recorder.dropped() == {"consent": 1}
    assert "consent failed, which counts as a refusal: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/health", True),
        ("/healthz", True),
        ("/health/db", True),
        ("/api/health", False),
        ("/HEALTH", False),
        ("/static/größe.css", True),
        ("/static/x.js", False),
        ("/a b", True),
        ("/", False),
    ],
)
def test_excluded_paths_are_shell_patterns_of_the_decoded_path(
    make_recorder: MakeRecorder, path: str, *, excluded: bool
) -> None:
    recorder = make_recorder(exclude_paths=("/health*", "/static/gr?*.css", "/a b"))
    serve(recorder, {"type": "http", "headers": [], "path": path})
    assert recorder.dropped() == ({"excluded": 1} if excluded else {})


def test_should_capture_sees_the_frameworks_request(make_recorder: MakeRecorder) -> None:
    seen: list[object] = []

    def should_capture(request: object) -> bool:
        seen.append(request)
        return request != "bot"

    recorder = make_recorder(should_capture=should_capture)
    serve(recorder, "bot")
    serve(recorder, COOKIE)
    recorder.client.for_request("bot").capture("y")
    assert len(recorder.records()) == 1
    assert recorder.dropped() == {"excluded": 2}
    assert seen == ["bot", COOKIE, "bot"]


def test_a_should_capture_function_that_raises_counts_as_yes(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder(should_capture=lambda request: 1 / 0)
    serve(recorder)
    assert len(recorder.records()) == 1
    assert "should_capture failed, which counts as yes: ZeroDivisionError" in caplog.text


def test_an_excluded_request_stays_excluded_after_its_end(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(should_capture=lambda request: False)
    analytics = Analytics(RequestScope(recorder.client, Visit()))
    analytics._scope.close()
    analytics.capture("late")
    assert recorder.records() == []
    assert recorder.dropped() == {"excluded": 1}


# --- ids -----------------------------------------------------------------------------------------------


def test_invalid_ids_are_counted_and_not_logged(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    poison = "forged" * 50
    request = {"headers": {"cookie": f"ss_sid={poison}", "x-signal-distinct-id": poison}}
    for _ in range(3):
        serve(recorder, request)
    assert recorder.client.stats().invalid_ids == {"ss_sid": 3, "x-signal-distinct-id": 3}
    assert len(recorder.records()) == 3
    assert "ss_sid contains an invalid id" in caplog.text
    assert "forged" not in caplog.text
    assert len(caplog.records) == 2


def test_a_mismatch_of_browser_id_and_user_is_counted_once_per_request(recorder: Recorder) -> None:
    request = {"headers": {"x-signal-distinct-id": "browser"}}
    serve(recorder, request, user="user_1")
    serve(recorder, request, user="browser")
    serve(recorder, request)
    serve(recorder, "", user="user_1")
    assert recorder.client.stats().mismatched_ids == 1


def test_ids_of_signal_come_from_its_headers(recorder: Recorder) -> None:
    names = ("session", "window", "distinct")
    serve(recorder, {"headers": {f"X-Signal-{name}-Id": name for name in names}})
    assert recorder.entries()[0].context.signal == SignalIds(
        session_id="session", window_id="window", distinct_id="distinct"
    )


# --- the user ------------------------------------------------------------------------------------------


def test_a_user_function_sees_the_frameworks_request(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(user=len)
    serve(recorder, COOKIE, user="framework")
    assert recorder.users() == [str(len(COOKIE))]


@pytest.mark.parametrize("found", [None, ""])
def test_a_user_function_may_return_none(make_recorder: MakeRecorder, found: object) -> None:
    recorder = make_recorder(user=lambda request: found)
    serve(recorder, user="framework")
    assert recorder.users() == [None]


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (lambda request: 1 / 0, "ZeroDivisionError"),
        (lambda request: object(), "user must be a string"),
        (lambda request: True, "not bool"),
    ],
)
def test_a_failing_user_function_is_logged_and_counts_as_no_user(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture, user: object, words: str
) -> None:
    recorder = make_recorder(user=user)
    serve(recorder)
    assert recorder.users() == [None]
    assert "the user could not be read" in caplog.text
    assert words in caplog.text


class BrokenRequest(Visit):
    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        raise ZeroDivisionError

    def user_id(self) -> str | None:
        raise ZeroDivisionError

    def route(self) -> str | None:
        raise ZeroDivisionError


def test_a_failing_reader_loses_ids_but_no_records(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    analytics = serve(recorder, kind=BrokenRequest)
    assert analytics.context == EMPTY_CONTEXT
    assert len(recorder.records()) == 1
    for what in ("request", "user", "route"):
        assert f"the {what} could not be read: ZeroDivisionError" in caplog.text


# --- properties ----------------------------------------------------------------------------------------


def test_redacted_properties_are_not_sent(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(redact=("password", "card"))
    analytics = recorder.client.analytics
    analytics.capture("x", {"Password": "secret", "order": {"CARD": "secret", "total": 3}})
    analytics.identify("u", {"password": "secret"})
    analytics.goals.increment("g", metadata={"card": "secret"})
    analytics.tag(card="secret")
    assert all(b"secret" not in record.properties for record in recorder.records())
    assert recorder.events()["x"] == {"Password": "[redacted]", "order": {"CARD": "[redacted]", "total": 3}}


def test_the_size_limit_is_a_setting(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(max_property_bytes=10)
    recorder.client.analytics.capture("x", {"a": "bc"})
    recorder.client.analytics.capture("y", {"a": "bcd"})
    assert list(recorder.events()) == ["x"]
    assert recorder.client.stats().rejected == 1


def test_an_unknown_object_is_sent_as_its_type_with_one_warning(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        recorder.client.analytics.capture("x", {"a": BoxDestination()})
    assert recorder.events() == {"x": {"a": "<BoxDestination>"}}
    [logged] = caplog.records
    assert logged.getMessage().startswith(f"{__file__}:")
    assert "tests.core.box.BoxDestination is sent as" in logged.getMessage()


def test_a_value_that_raises_is_sent_as_its_type_with_one_warning_that_names_the_error(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    class Lazy(UserDict[str, str]):
        def items(self) -> Any:
            raise OSError("password=secret")

    for _ in range(3):
        recorder.client.analytics.capture("x", {"a": Lazy(), "b": 1})
    assert recorder.events() == {"x": {"a": "<Lazy>", "b": 1}}
    assert recorder.client.stats().rejected == 0
    [logged] = caplog.records
    assert logged.getMessage().startswith(f"{__file__}:")
    assert logged.getMessage().endswith('is sent as "<Lazy>", because reading it raised OSError')


def test_every_id_of_another_library_is_its_python_value(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(strict=True)
    client = recorder.client
    seven: Any = np.int64(7)
    client.bind(user_id=seven, distinct_id=seven, anonymous_id=seven).capture("bound", {seven: seven})
    client.bind(TrackingContext(user_id=seven)).capture("carried")
    client.analytics.capture("x", user_id=seven, groups={"company": seven}, key=np.str_("k"))
    client.analytics.identify(seven, {"seats": seven})
    client.analytics.alias(seven, user_id=seven)
    client.analytics.group("company", seven, {"seats": seven}, user_id=seven)
    client.analytics.goals.increment(np.str_("signups"), seven, metadata={"seats": seven}, session_id=np.str_("s1"))
    assert all(entry.user_id == "7" for entry in recorder.entries() if entry.record.kind != "goal")
    assert sorted(record.properties for record in recorder.records() if record.properties != b"{}") == [
        b'{"7":7}',
        *[b'{"seats":7}'] * 3,
    ]


def test_naive_times_are_in_the_zone_of_the_settings(make_recorder: MakeRecorder) -> None:
    local, utc = datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 10, tzinfo=UTC)
    for zone in ("Europe/Berlin", ZoneInfo("Europe/Berlin")):
        recorder = make_recorder(time_zone=zone)
        recorder.client.analytics.capture("x", {"at": local, "all": [local, utc]}, timestamp=local)
        recorder.client.analytics.identify("u", {"at": local}, timestamp=utc)
        assert recorder.events()["x"] == {
            "at": "2026-07-01T12:00:00+02:00",
            "all": ["2026-07-01T12:00:00+02:00", "2026-07-01T10:00:00Z"],
        }
        assert [record.time for record in recorder.records()] == [utc.timestamp()] * 2


def test_without_a_time_zone_setting_naive_times_are_unchanged_and_timestamps_are_utc(recorder: Recorder) -> None:
    local = datetime(2026, 7, 1, 12)
    recorder.client.analytics.capture("x", {"at": local}, timestamp=local)
    assert recorder.events()["x"] == {"at": "2026-07-01T12:00:00"}
    assert recorder.records()[0].time == local.replace(tzinfo=UTC).timestamp()


# --- the client itself ---------------------------------------------------------------------------------


def test_a_client_without_destinations_logs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    client.analytics.capture("x")
    client.analytics.goals.increment("g", destinations=["sessionsight"])
    assert client.flush()
    assert client.shutdown()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no destination is configured" in caplog.text
    assert repr(client) == "Client(no destinations)"


def test_a_disabled_client_sends_and_logs_nothing(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder(disabled=True)
    recorder.client.analytics.capture("x", destinations="box")
    serve(recorder)
    assert recorder.client.flush()
    assert recorder.box.entries == {}
    assert recorder.client.stats().lanes == {}
    assert caplog.records == []
    assert repr(recorder.client) == "Client(box)"


def test_a_disabled_client_needs_no_destination(caplog: pytest.LogCaptureFixture) -> None:
    Client(Settings(disabled=True)).analytics.capture("x")
    assert caplog.records == []


def test_a_capture_after_the_shutdown_is_counted_as_lost(recorder: Recorder) -> None:
    assert recorder.client.shutdown()
    recorder.client.analytics.capture("late")
    assert recorder.client.stats().lanes["box"].dropped == {"shutdown": 1}


def test_settings_come_from_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "pk")
    assert repr(Client()) == "Client(analyse)"


def test_resuming_an_unknown_destination_suggests_the_closest_name(recorder: Recorder) -> None:
    recorder.client.resume()
    recorder.client.resume("box")
    with pytest.raises(ConfigurationError, match="resume: unknown destination 'bax'; did you mean 'box'"):
        recorder.client.resume("bax")
    with pytest.raises(ConfigurationError, match="resume: unknown destination 'signal'; known are box"):
        recorder.client.resume("signal")


def test_configure_takes_settings_or_options_and_not_both() -> None:
    with pytest.raises(ConfigurationError, match="configure takes settings, or options by name, not both"):
        configure(Settings(), strict=True)
    with pytest.raises(ConfigurationError, match="configure: unknown option 'strct'; did you mean 'strict'"):
        configure(strct=True)
    assert configure(Settings(strict=True)).settings.strict


async def test_aflush_waits_in_another_thread(recorder: Recorder) -> None:
    recorder.client.analytics.capture("x")
    assert await recorder.client.aflush(10)
    assert len(recorder.box.entries["box"]) == 1


def test_records_reach_the_lane_with_all_their_fields(recorder: Recorder) -> None:
    request = {"headers": {"cookie": COOKIE, "host": "shop.example", "referer": "https://blog.example/?token=1"}}
    analytics = Analytics(RequestScope(recorder.client, Visit(request, user="user_1", route="/orders/<id>")))
    analytics.capture("order_processed", {"order_id": "ord_1"})
    analytics._scope.close()
    [entry] = recorder.entries()
    assert isinstance(entry.record, EventRecord)
    assert decode(entry.record.properties) == {"order_id": "ord_1"}
    assert entry.context == TrackingContext(
        sessionsight=SessionSightIds(session_id="session-1", visitor_id="visitor-1"),
        user_id="user_1",
        page=Page(
            hostname="shop.example",
            referrer="https://blog.example/",
            referrer_domain="blog.example",
            route="/orders/<id>",
        ),
    )
