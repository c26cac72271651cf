import asyncio
import contextvars
import threading

import pytest

from sessionsight import Analytics, Client, NoClientError, Settings, configure, current, for_request
from sessionsight.capture.current import reset_current, set_current, set_default_client
from sessionsight.capture.scope import RequestScope
from tests.core.box import Recorder, Visit


def test_inside_a_request_its_analytics_are_current(recorder: Recorder) -> None:
    outer, inner = recorder.client.analytics, recorder.client.analytics
    token = set_current(outer)
    assert current() is outer
    nested = set_current(inner)
    assert current() is inner
    reset_current(nested)
    assert current() is outer
    reset_current(token)
    with pytest.raises(NoClientError):
        current()


def test_without_a_client_the_error_says_what_to_do() -> None:
    with pytest.raises(
        NoClientError,
        match=r"no analytics client in this process: install one of the middlewares, or call sessionsight\.configure",
    ):
        current()
    with pytest.raises(NoClientError, match="no analytics client"):
        for_request("ss_sid=x")


def test_outside_a_request_the_processs_client_serves(recorder: Recorder) -> None:
    set_default_client(recorder.client)
    current().capture("job_done")
    for_request("ss_sid=session-1").capture("webhook")
    assert list(recorder.events()) == ["job_done", "webhook"]
    assert recorder.entries()[1].context.session_id == "session-1"


def test_the_first_client_stays_unless_it_is_replaced(recorder: Recorder) -> None:
    other = Client(Settings())
    set_default_client(recorder.client)
    set_default_client(other, replace=False)
    current().capture("first")
    assert list(recorder.events()) == ["first"]
    set_default_client(other)
    current().capture("second")
    assert list(recorder.events()) == ["first"]


def test_configure_makes_the_processs_client() -> None:
    client = configure(destinations={"analyse": {"public_key": "pk_live_1"}}, disabled=True)
    assert repr(client) == "Client(analyse)"
    current().capture("x")


def test_once_a_request_is_over_inherited_work_gets_what_counts_outside(
    recorder: Recorder, lenient: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    analytics = Analytics(RequestScope(recorder.client, Visit("ss_sid=session-1")))
    token = set_current(analytics)
    inherited = contextvars.copy_context()
    reset_current(token)
    analytics._scope.end()
    assert inherited.run(current) is analytics  # its background tasks are not done yet
    analytics._scope.close()
    with pytest.raises(NoClientError):
        inherited.run(current)
    set_default_client(lenient.client)
    caplog.clear()
    for _ in range(3):
        inherited.run(lambda: current().capture("mail_sent", user_id="bob"))
    [warning] = caplog.messages
    assert "test_current.py:" in warning
    assert "is over, so current() no longer gives its analytics: start the work with sessionsight.carry(" in warning
    analytics.capture("explicit")
    assert [entry.context.session_id for entry in lenient.entries()] == [None, None, None]
    assert [entry.context.session_id for entry in recorder.entries()] == ["session-1"]


def test_a_thread_has_no_current_request_unless_the_context_is_copied(recorder: Recorder) -> None:
    analytics = recorder.client.analytics
    found: list[object] = []

    def look() -> None:
        try:
            found.append(current())
        except NoClientError:
            found.append(None)

    token = set_current(analytics)
    context = contextvars.copy_context()
    reset_current(token)
    for target in (look, lambda: context.run(look)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert found == [None, analytics]


async def test_tasks_and_to_thread_see_the_request_they_were_started_in(recorder: Recorder) -> None:
    first, second = recorder.client.analytics, recorder.client.analytics

    async def serve(analytics: object) -> bool:
        token = set_current(analytics)  # type: ignore[arg-type]
        try:
            await asyncio.sleep(0)
            in_thread = await asyncio.to_thread(current)
            in_task = await asyncio.create_task(find())
            return current() is in_thread is in_task is analytics
        finally:
            reset_current(token)

    async def find() -> object:
        return current()

    assert list(await asyncio.gather(serve(first), serve(second))) == [True, True]
