"""`scope` and `carry`: a tracking context that is current in code that no request contains."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import anyio
import pytest

from sessionsight import (
    Analytics,
    InvalidEventError,
    NoClientError,
    TrackingContext,
    bind,
    carry,
    current,
    get_client,
    scope,
)
from sessionsight.capture.current import reset_current, set_current, set_default_client
from sessionsight.capture.scope import RequestScope
from sessionsight.request.context import SessionSightIds
from tests.core.box import Recorder, Visit
from tests.core.conftest import MakeRecorder

CONTEXT = TrackingContext(sessionsight=SessionSightIds(session_id="s-1", visitor_id="v-1"), user_id="ada")


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "asyncio"))


@pytest.fixture(autouse=True)
def _default(recorder: Recorder) -> Iterator[None]:
    set_default_client(recorder.client)
    yield
    set_default_client(None)


def sessions(recorder: Recorder) -> list[str | None]:
    return [entry.context.session_id for entry in recorder.entries()]


# --- scope -----------------------------------------------------------------------------------------


def test_current_finds_a_scope_everywhere_below(recorder: Recorder) -> None:
    def charge() -> None:
        current().capture("charged")

    with scope(CONTEXT, user_id="bob") as analytics:
        assert current() is analytics
        charge()
    assert current() is not analytics
    assert (recorder.users(), sessions(recorder)) == (["bob"], ["s-1"])


def test_records_of_a_scope_leave_at_its_end_and_are_completed_by_identify(recorder: Recorder) -> None:
    with scope() as analytics:
        analytics.capture("first")
        analytics.identify("ada")
        assert recorder.client.stats().lanes["box"].captured == 0
    assert recorder.users() == ["ada", "ada"]


def test_scopes_nest_and_the_same_one_may_be_entered_again(recorder: Recorder) -> None:
    outer, inner = scope(user_id="outer"), scope(user_id="inner")
    with outer as first:
        with inner:
            current().capture("in")
        assert current() is first
        with inner, outer:
            current().capture("again")
        current().capture("out")
    assert recorder.users() == ["inner", "outer", "outer"]


async def test_tasks_may_enter_the_same_scope_at_a_time(recorder: Recorder) -> None:
    shared = scope(CONTEXT)
    first, second = asyncio.Event(), asyncio.Event()

    async def job(name: str, mine: asyncio.Event, other: asyncio.Event) -> bool:
        async with shared as analytics:
            mine.set()
            await other.wait()
            current().capture(name)
            return current() is analytics

    assert list(await asyncio.gather(job("a", first, second), job("b", second, first))) == [True, True]
    assert sorted(recorder.events()) == ["a", "b"]


def test_an_exception_passes_through_and_what_was_captured_is_kept(recorder: Recorder) -> None:
    with pytest.raises(LookupError), scope(user_id="ada", flush=True):  # noqa: PT012
        current().capture("tried")
        raise LookupError
    assert recorder.box.entries["box"][0].user_id == "ada"
    with pytest.raises(LookupError):
        asyncio.run(_fail())
    assert recorder.users() == ["ada", "bob"]


async def _fail() -> None:
    async with scope(user_id="bob", flush=True):
        current().capture("tried")
        raise LookupError


def test_with_flush_the_end_waits_for_delivery(recorder: Recorder) -> None:
    with scope(flush=True) as analytics:
        analytics.capture("exported", user_id="ada")
    assert len(recorder.box.entries["box"]) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_with_flush_the_end_of_an_async_scope_waits_and_the_loop_goes_on(
    make_recorder: MakeRecorder, anyio_backend: str
) -> None:
    slow = make_recorder("box", strict=True)
    release, send = threading.Event(), slow.box.send

    def wait_and_send(*args: Any) -> Any:
        assert release.wait(10)
        return send(*args)

    slow.box.send = wait_and_send  # type: ignore[method-assign, assignment]
    async with anyio.create_task_group() as tasks:

        async def job() -> None:
            async with slow.client.scope(user_id="ada", flush=True) as analytics:
                analytics.capture("exported")
            assert slow.users() == ["ada"]

        tasks.start_soon(job)
        with anyio.fail_after(10):
            while not slow.client.stats().lanes["box"].captured:  # noqa: ASYNC110  # a lane has no event to wait for
                await anyio.sleep(0.001)
        release.set()


def test_the_end_waits_no_longer_than_flush_timeout(make_recorder: MakeRecorder) -> None:
    silent = make_recorder("box", flush_timeout=0.05)
    release = threading.Event()
    send = silent.box.send
    silent.box.send = lambda *args: (release.wait(10), send(*args))[1]  # type: ignore[method-assign]
    started = time.monotonic()
    with silent.client.scope(flush=True) as analytics:
        analytics.capture("exported", user_id="ada")
    assert time.monotonic() - started < 5
    release.set()
    assert silent.users() == ["ada"]


async def test_a_cancelled_scope_submits_what_it_has_and_does_not_wait(recorder: Recorder) -> None:
    entered = asyncio.Event()

    async def job() -> None:
        async with scope(user_id="ada", flush=True):
            current().capture("begun")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(job())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.users() == ["ada"]


async def test_a_durable_store_is_written_off_the_event_loop(make_recorder: MakeRecorder, tmp_path: Any) -> None:
    durable = make_recorder("box", spool=f"sqlite:///{tmp_path}/spool.db")
    threads: list[int] = []
    submit = durable.client.submit
    durable.client.submit = lambda batch: (threads.append(threading.get_ident()), submit(batch))[1]  # type: ignore[method-assign, func-returns-value]
    async with durable.client.scope(user_id="ada") as analytics:
        analytics.capture("exported")
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_work_that_outlives_a_scope_no_longer_finds_it(recorder: Recorder) -> None:
    go_on = asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        current().capture("later", user_id="bob")

    async with scope(CONTEXT):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    go_on.set()
    await task
    assert (recorder.users(), sessions(recorder)) == (["bob"], [None])


def test_a_scope_may_end_in_another_context_than_it_began(recorder: Recorder) -> None:
    import contextvars

    stretch = scope(user_id="ada")
    contextvars.copy_context().run(lambda: stretch.__enter__().capture("x"))
    stretch.__exit__(None, None, None)
    assert recorder.users() == ["ada"]


def test_bind_submits_each_record_at_once_and_leaves_current_alone(recorder: Recorder) -> None:
    bound = bind(CONTEXT, anonymous_id="a-1")
    bound.capture("x")
    assert recorder.client.stats().lanes["box"].captured == 1
    assert current() is not bound
    assert (recorder.users(), sessions(recorder)) == (["ada"], ["s-1"])


def test_wrong_ids_are_told_as_those_of_bind_are(recorder: Recorder) -> None:
    with pytest.raises(InvalidEventError, match="user_id must be"), scope(user_id=1.5):
        pass


def test_without_a_client_nothing_can_be_bound() -> None:
    set_default_client(None)
    for make in (get_client, bind, scope, lambda: carry(print)):
        with pytest.raises(NoClientError, match=r"call sessionsight\.configure"):
            make()


# --- carry -----------------------------------------------------------------------------------------


class Request:
    """A request that is served, as an adapter does it."""

    def __init__(self, recorder: Recorder, cookie: str = "ss_sid=s-1", *, user: str | None = "ada") -> None:
        from sessionsight import Analytics

        self.visit = Visit(cookie, user=user)
        self.analytics = Analytics(RequestScope(recorder.client, self.visit))

    def __enter__(self) -> Self:
        self._token = set_current(self.analytics)
        return self

    def __exit__(self, *_: object) -> None:
        reset_current(self._token)
        self.analytics._scope.end()
        self.analytics._scope.close()


def test_a_carried_function_keeps_the_ids_after_the_request(recorder: Recorder) -> None:
    def job(name: str) -> str:
        current().capture(name)
        current().goals.increment("jobs")
        return name

    with Request(recorder), ThreadPoolExecutor(1) as pool:
        during = pool.submit(carry(job), "during")
        carried = carry(job)
    assert during.result() == "during"
    assert recorder.client.stats().lanes["box"].captured == 2
    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(carried, name).result() for name in ("a", "b")] == ["a", "b"]
    assert sessions(recorder) == ["s-1"] * 6
    assert {entry.user_id for entry in recorder.entries()} == {"ada"}


async def test_a_carried_coroutine_function_keeps_the_ids_after_the_request(recorder: Recorder) -> None:
    go_on = asyncio.Event()

    async def job(number: int) -> int:
        await go_on.wait()
        current().capture("job")
        return number

    class Job:
        async def __call__(self, number: int) -> int:
            return await job(number)

    with Request(recorder):

        def plain(number: int) -> Any:
            return job(number)

        functions: list[Any] = [job, functools.partial(job), Job(), plain]
        tasks = [asyncio.create_task(carry(function)(number)) for number, function in enumerate(functions)]
    go_on.set()
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
    assert sessions(recorder) == ["s-1"] * 4


def test_carried_work_passes_on_what_was_said_of_the_visitor(recorder: Recorder) -> None:
    with Request(recorder, user=None) as request:
        request.analytics.tag(plan="pro")
        request.analytics.identify("eve")
        carried = carry(lambda: current().capture("job"))
        request.analytics.identify("mallory")
    carried()
    assert recorder.events() == {"job": {"plan": "pro"}}
    assert recorder.users() == ["eve", "mallory", "eve"]


def test_carrying_changes_nothing_of_the_request(recorder: Recorder) -> None:
    with Request(recorder, user=None) as request:
        carry(print)
        request.visit.user = "late"  # a login after it
        request.analytics.capture("x")
    assert recorder.users() == ["late"]


def test_a_refusal_is_carried_too(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("box", consent=lambda data: False)
    with Request(recorder):
        carried = carry(lambda: current().capture("job", user_id="ada"))
    carried()
    assert recorder.entries() == []
    assert recorder.dropped() == {"consent": 1}


async def test_what_carried_work_starts_no_longer_finds_it_afterwards(recorder: Recorder) -> None:
    go_on = asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        current().capture("later", user_id="bob")

    async def job() -> asyncio.Task[None]:
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
        return task

    with Request(recorder):
        carried = carry(job)
    task = await carried()
    go_on.set()
    await task
    assert sessions(recorder) == [None]


def test_a_value_that_is_not_a_function_cannot_be_carried(recorder: Recorder, lenient: Recorder) -> None:
    async def job() -> None:
        pass

    coroutine: Any = job()
    with pytest.raises(InvalidEventError, match=r"carry\(\) takes the function itself, not what it returns"):
        carry(coroutine)
    coroutine.close()
    set_default_client(lenient.client)
    wrong: Any = "job"
    assert carry(wrong) is wrong


def test_a_carried_functions_exception_passes_through(recorder: Recorder) -> None:
    def fail() -> None:
        current().capture("tried", user_id="ada")
        raise LookupError

    with pytest.raises(LookupError):
        carry(fail)()
    assert recorder.users() == ["ada"]
    assert carry(fail).__name__ == "fail"


async def test_an_error_of_the_flush_at_the_end_is_logged(
    lenient: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> Any:
        raise RuntimeError("no")

    for name in ("flush", "aflush"):
        monkeypatch.setattr(Analytics, name, fail)
    with lenient.client.scope(user_id="ada", flush=True):
        pass
    assert caplog.text.count("RuntimeError") == 1
    caplog.clear()
    async with lenient.client.scope(user_id="ada", flush=True):
        pass
    assert caplog.text.count("RuntimeError") == 1
