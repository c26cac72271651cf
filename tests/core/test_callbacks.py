"""Async functions as settings are rejected, and awaitables do not count as yes."""

import asyncio
import functools
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from sessionsight import Analytics, ConfigurationError, Settings
from sessionsight.callbacks import UnawaitedResult, decide, is_async, run
from sessionsight.capture.encoding import encode
from sessionsight.capture.records import EventRecord, QueuedRecord
from sessionsight.capture.scope import RequestScope
from sessionsight.delivery.before_send import apply
from sessionsight.destinations import Analyse, Saytics, SessionSight, Signal
from sessionsight.destinations.options import resolve_secret
from tests.core.box import BoxDestination, Recorder, Visit
from tests.core.conftest import MakeRecorder

SETTINGS = [
    "consent",
    "should_capture",
    "pageviews",
    "is_bot",
    "user",
    "choose_destinations",
    "before_send",
    "on_error",
]


async def no(*_: object) -> Any:
    return False


async def names(*_: object) -> AsyncIterator[str]:
    yield "box"


class Policy:
    async def __call__(self, *_: object) -> bool:
        return False

    async def ask(self, *_: object) -> bool:
        return False

    async def ask_all(self, *_: object) -> AsyncIterator[bool]:
        yield False


ASYNC: dict[str, Any] = {
    "function": no,
    "generator": names,
    "method": Policy().ask,
    "generator method": Policy().ask_all,
    "object": Policy(),
    "partial": functools.partial(no, 1),
    "partial of a partial": functools.partial(functools.partial(no, 1), 2),
    "partial of an object": functools.partial(Policy(), 1),
    "sync_to_async": sync_to_async(print),
}


class Later:
    """An awaitable that is not a coroutine."""

    def __await__(self) -> Iterator[Any]:
        yield


@types.coroutine
def old_style(*_: object) -> Generator[None, None, bool]:
    yield
    return False


@functools.wraps(no)
def wrapped(*arguments: object) -> Awaitable[Any]:
    return no(*arguments)


cached = functools.lru_cache(no)


LATE: dict[str, Callable[..., Any]] = {
    "lambda": lambda *_: no(),
    "decorated": wrapped,
    "cached": lambda *_: cached(),
    "async generator": lambda *_: names(),
    "awaitable": lambda *_: Later(),
    "coroutine of a generator": old_style,
}


@pytest.fixture(autouse=True)
def _no_coroutine_is_left_unawaited() -> Iterator[None]:
    """Turns Python's warning about coroutines that were never awaited into an error."""
    yield
    cached.cache_clear()


# --- when they are set ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ASYNC)
@pytest.mark.parametrize("name", SETTINGS)
def test_an_async_function_as_a_setting_is_rejected(name: str, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be a plain function .*its result is not awaited"):
        Settings(**{name: ASYNC[kind]})


@pytest.mark.parametrize("kind", ASYNC)
@pytest.mark.parametrize(
    ("vendor", "options"),
    [
        (SessionSight, {"secret_api_key": None, "property_id": "shop"}),
        (Signal, {"api_key": None}),
        (Saytics, {"secret_key": None}),
        (Analyse, {"public_key": None}),
    ],
)
def test_an_async_function_for_a_key_is_rejected(vendor: Any, options: dict[str, Any], kind: str) -> None:
    options = {name: ASYNC[kind] if value is None else value for name, value in options.items()}
    with pytest.raises(ConfigurationError, match=r"^destination '\w+': \w*key must be a plain function"):
        vendor(**options)


@pytest.mark.parametrize("method", ["supports", "drop_reason", "build_requests", "classify"])
def test_a_custom_destination_with_an_async_method_is_rejected(method: str) -> None:
    destination = BoxDestination()
    setattr(destination, method, no)
    with pytest.raises(ConfigurationError, match=f"^destination 'box': {method} must be a plain function"):
        Settings(destinations=(destination,))


@pytest.mark.parametrize("function", [print, bool, Policy, async_to_sync(no), functools.partial(print, 1), wrapped])
def test_every_other_callable_may_be_a_plain_function(function: Callable[..., Any]) -> None:
    assert not is_async(function)


# --- when they are called ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ASYNC, *LATE])
def test_an_awaitable_is_not_a_result(kind: str) -> None:
    function = {**ASYNC, **LATE}[kind]
    for call in (run, decide):
        with pytest.raises(UnawaitedResult, match=r"^the function returned a .*, which is not awaited"):
            call(function)


def test_a_generator_is_not_a_truth_value() -> None:
    with pytest.raises(UnawaitedResult, match="generator; it must return True or False"):
        decide(lambda: (answer for answer in [False]))
    assert list(run(lambda: (name for name in ["box"]))) == ["box"]


def test_a_task_of_another_coroutine_is_not_closed() -> None:
    async def main() -> object:
        task = asyncio.ensure_future(asyncio.sleep(0, "done"))
        with pytest.raises(UnawaitedResult):
            run(lambda: task)
        return await task

    assert asyncio.run(main()) == "done"


def late(make_recorder: MakeRecorder, *names: str, **options: Any) -> tuple[Recorder, Analytics]:
    """Capture an event and a page view in a request with this setting."""
    recorder = make_recorder(*names, **options)
    analytics = Analytics(RequestScope(recorder.client, Visit("ss_sid=session-1", user="framework")))
    analytics.capture("seen")
    analytics._scope.response_started("GET", 200, "text/html")
    analytics._scope.end()
    return recorder, analytics


@pytest.mark.parametrize("kind", LATE)
@pytest.mark.parametrize(
    "setting",
    [
        ("consent", "consent", "consent failed, which counts as a refusal"),
        ("should_capture", "excluded", "should_capture returned no result, which counts as no"),
        (
            "choose_destinations",
            "choose_destinations_error",
            "choose_destinations failed, so the records are dropped",
        ),
    ],
)
def test_an_awaitable_from_consent_or_should_capture_drops_the_request(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture, setting: tuple[str, str, str], kind: str
) -> None:
    name, reason, words = setting
    recorder, analytics = late(make_recorder, **{name: LATE[kind]})
    analytics.capture("late")
    recorder.client.for_request("ss_sid=session-1").capture("elsewhere")
    assert recorder.records() == []
    assert recorder.dropped() == {reason: 3}
    assert f"{words}: UnawaitedResult: the function returned a" in caplog.text


@pytest.mark.parametrize("kind", LATE)
def test_an_awaitable_from_pageviews_or_user_counts_as_no_page_and_no_user(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    recorder, _ = late(make_recorder, pageviews=LATE[kind], user=LATE[kind])
    assert list(recorder.events()) == ["seen"]
    assert recorder.users() == [None]
    assert "pageviews failed, which counts as no: UnawaitedResult" in caplog.text
    assert "the user could not be read: UnawaitedResult" in caplog.text


@pytest.mark.parametrize("kind", LATE)
def test_an_awaitable_from_before_send_drops_the_record(make_recorder: MakeRecorder, kind: str) -> None:
    recorder = make_recorder(before_send=LATE[kind])
    recorder.client.analytics.capture("seen")
    assert recorder.records() == []
    assert recorder.dropped() == {"before_send_error": 1}
    entry = QueuedRecord(
        EventRecord(random=bytes(10), time=0, name="seen", properties=encode({})),
        Analytics(RequestScope(recorder.client)).context,
    )
    with pytest.raises(UnawaitedResult):
        apply(LATE[kind], entry, "box")


@pytest.mark.parametrize("kind", LATE)
def test_an_awaitable_is_not_a_key(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the function returned a .*, which is not awaited"):
        resolve_secret(LATE[kind])


# --- in every framework -----------------------------------------------------------------------------


def asgi(settings: dict[str, Any]) -> object:
    from sessionsight_asgi import AnalyticsMiddleware

    return AnalyticsMiddleware(no, **settings)


def wsgi(settings: dict[str, Any]) -> object:
    from sessionsight.wsgi import AnalyticsMiddleware

    return AnalyticsMiddleware(lambda environ, start_response: [], **settings)


def flask(settings: dict[str, Any]) -> object:
    from flask import Flask

    from sessionsight_flask import SessionSight

    app = Flask("shop")
    app.config.update({f"SESSIONSIGHT_{name.upper()}": value for name, value in settings.items()})
    return SessionSight(app)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("framework", [asgi, wsgi, flask])
def test_an_app_with_an_async_function_in_its_settings_does_not_start(
    framework: Callable[..., object], name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be a plain function"):
        framework({"destinations": {}, name: no})
