from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sessionsight import ConfigurationError, SessionSightIds, SignalIds, TrackingContext
from sessionsight.capture.current import set_default_client
from sessionsight.propagation.headers import Propagation, propagated_headers
from sessionsight.request.context import OPTED_OUT
from sessionsight.request.raw import RequestData
from sessionsight.request.resolve import resolve
from tests.core.box import Recorder

VISITOR = TrackingContext(
    sessionsight=SessionSightIds(session_id="session-1", visitor_id="visitor-1"),
    signal=SignalIds(session_id="signal-1", window_id="window-1", distinct_id="person-1"),
)


@pytest.fixture(autouse=True)
def _no_default_client() -> Iterator[None]:
    yield
    set_default_client(None)


def resolved(headers: dict[str, str]) -> TrackingContext:
    """The context that the next service resolves."""
    return resolve(RequestData(headers=headers)).context


# --- the headers -----------------------------------------------------------------------------------


def test_the_receiver_resolves_the_same_ids() -> None:
    assert resolved(propagated_headers(VISITOR, (), "")) == VISITOR


def test_a_refusal_is_passed_on_without_ids_and_resolved_as_one() -> None:
    headers = propagated_headers(OPTED_OUT, (), "")
    assert headers == {"sec-gpc": "1", "cookie": "ss_opted_out=1"}
    assert resolved(headers) == OPTED_OUT


def test_a_context_without_ids_adds_nothing() -> None:
    assert propagated_headers(TrackingContext(user_id="ada", anonymous_id="anonymous-1"), (), "") == {}


@pytest.mark.parametrize(
    ("cookie", "merged"),
    [
        ("theme=dark", "theme=dark; ss_sid=session-1; ss_vid=visitor-1"),
        ("ss_sid=mine; theme=dark", "ss_sid=mine; theme=dark; ss_vid=visitor-1"),
        ("ss_sid=", "ss_sid=; ss_vid=visitor-1"),
        ("ss_vid=mine; ss_sid=mine", None),
    ],
)
def test_cookies_of_the_caller_are_kept_and_take_precedence(cookie: str, merged: str | None) -> None:
    assert propagated_headers(VISITOR, ("cookie",), cookie).get("cookie") == merged


def test_headers_of_the_caller_take_precedence() -> None:
    added = propagated_headers(VISITOR, ("x-signal-session-id", "x-signal-window-id"), "")
    assert sorted(added) == ["cookie", "x-signal-distinct-id"]


@pytest.mark.parametrize("value", ["Zoë", " ada", "ada ", "a\N{NO-BREAK SPACE}b"])
def test_an_id_that_http_libraries_would_change_or_reject_is_left_out(value: str) -> None:
    context = TrackingContext(signal=SignalIds(distinct_id=value, session_id="a b"))
    assert propagated_headers(context, (), "") == {"x-signal-session-id": "a b"}


# --- the hosts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "host", "port"),
    [
        ("api.example.com", "api.example.com", None),
        ("api.example.com", "API.example.com", 8443),
        ("API.Example.com", "api.example.com", None),
        ("api.example.com:443", "api.example.com", None),
        ("api.example.com:8443", "api.example.com", 8443),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("*.example.com", "api.example.com", None),
        ("*.example.com", "eu.api.example.com", None),
        ("*.example.com:8443", "api.example.com", 8443),
        (".example.com", "api.example.com", None),
        (".example.com", "example.com", None),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::1]:8000", "::1", 8000),
        ("[::1]", "[::1]", None),
        ("billing", "billing", 80),
    ],
)
def test_a_listed_host_is_allowed(allowed: str, host: str, port: int | None) -> None:
    assert Propagation(["elsewhere.example", allowed]).allows("https", host, port)


@pytest.mark.parametrize(
    ("allowed", "host", "port"),
    [
        ("api.example.com", "example.com", None),
        ("api.example.com", "api.example.com.evil.example", None),
        ("api.example.com", "evil-api.example.com", None),
        ("api.example.com", "v1.api.example.com", None),
        ("api.example.com", "", None),
        ("api.example.com:80", "api.example.com", None),
        ("api.example.com:443", "api.example.com", 8443),
        ("*.example.com", "example.com", None),
        ("*.example.com", "evilexample.com", None),
        (".example.com", "evilexample.com", None),
        ("*.example.com:8443", "api.example.com", None),
        ("127.0.0.1", "127.0.0.2", None),
    ],
)
def test_every_other_host_is_not_allowed(allowed: str, host: str, port: int | None) -> None:
    assert not Propagation([allowed]).allows("https", host, port)


def test_a_port_may_be_the_schemes_own() -> None:
    allowed = Propagation(["api.example.com:80"])
    assert allowed.allows("http", "api.example.com", None)
    assert allowed.allows("ws", "api.example.com", None)
    assert not allowed.allows("gopher", "api.example.com", None)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "*",
        "*.",
        ".",
        "https://api.example.com",
        "api.example.com/v1",
        "a b",
        "x@y",
        "api.*.com",
        "a:port",
        "1.2.3.999",
        None,
    ],
)
def test_an_entry_that_is_not_a_host_is_an_error(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a host that may receive .* write 'api\.example\.com'"):
        Propagation([wrong])


def test_no_hosts_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="at least one host"):
        Propagation([])


# --- the current visitor ---------------------------------------------------------------------------


def headers_for(host: str) -> dict[str, str]:
    return Propagation(["api.example.com"]).headers("https", host, None, given=(), cookie="")


def test_the_current_visitors_ids_go_to_listed_hosts_only(recorder: Recorder) -> None:
    with recorder.client.scope(VISITOR):
        assert resolved(headers_for("api.example.com")) == VISITOR
        assert headers_for("example.com") == {}


def test_outside_a_request_nothing_is_added(recorder: Recorder) -> None:
    assert headers_for("api.example.com") == {}
    set_default_client(recorder.client)
    assert headers_for("api.example.com") == {}


def test_work_that_has_outlived_its_request_adds_nothing_and_no_warning(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    import contextvars

    with recorder.client.scope(VISITOR):
        inherited = contextvars.copy_context()
    assert inherited.run(headers_for, "api.example.com") == {}
    assert caplog.messages == []
