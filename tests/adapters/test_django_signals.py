"""Whoever logs in is identified, where the site asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS, AUTH, SESSIONS, browser, site
from tests.adapters.recording import Recorder

# isort: split
import django
from asgiref.sync import sync_to_async
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.management import call_command
from django.db import connection, connections
from django.http import HttpResponse
from django.test import AsyncClient, RequestFactory
from django.utils.version import get_version_tuple

from sessionsight import ConfigurationError
from sessionsight_django.signals import connect_auth_signals, disconnect_auth_signals

STACK = (ANALYTICS, SESSIONS, AUTH)
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A user in the database."""
    connections.settings["default"]["NAME"] = str(tmp_path_factory.mktemp("database") / "db.sqlite3")
    connection.close()
    call_command("migrate", verbosity=0)
    return User.objects.create_user("ada", password="secret")


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    disconnect_auth_signals()


@pytest.fixture
def views(ada: Any) -> list[Any]:
    def entering(request: Any) -> HttpResponse:
        request.analytics.capture("before")
        login(request, ada, BACKEND)
        request.analytics.capture("after")
        return HttpResponse("ok")

    def leaving(request: Any) -> HttpResponse:
        request.analytics.capture("before")
        logout(request)
        return HttpResponse("ok")

    return [entering, leaving]


def identities(recorder: Recorder) -> list[tuple[Any, Any]]:
    return [(event["event_name"], event.get("person_id")) for event in recorder.events()]


def test_a_login_identifies_and_completes_what_came_before(recorder: Recorder, views: Any, ada: Any) -> None:
    connect_auth_signals()
    with site(recorder, *views, middleware=STACK):
        assert browser().get("/entering/").content == b"ok"
    key = str(ada.pk)
    assert identities(recorder) == [("before", key), ("$identify", key), ("after", key)]


def test_traits_are_told_when_they_are_given(recorder: Recorder, views: Any) -> None:
    connect_auth_signals(traits=lambda user: {"staff": user.is_staff})
    with site(recorder, *views, middleware=STACK):
        browser().get("/entering/")
    [told] = [event for event in recorder.events() if event["event_name"] == "$identify"]
    assert "staff" in str(told)


def test_a_logout_keeps_the_user_of_what_came_before(recorder: Recorder, views: Any, ada: Any) -> None:
    connect_auth_signals()
    client = browser()
    client.force_login(ada)
    with site(recorder, *views, middleware=STACK):
        client.get("/leaving/")
    assert identities(recorder) == [("before", str(ada.pk))]


@pytest.mark.skipif(get_version_tuple(django.get_version()) < (5,), reason="Django 4.2 has no alogin")
async def test_async_logins_and_logouts_as_well(recorder: Recorder, ada: Any) -> None:
    from django.contrib.auth import alogin, alogout

    async def entering(request: Any) -> HttpResponse:
        await alogin(request, ada, BACKEND)
        return HttpResponse("ok")

    async def leaving(request: Any) -> HttpResponse:
        request.analytics.capture("before")
        await alogout(request)
        return HttpResponse("ok")

    connect_auth_signals()
    client = browser(AsyncClient)
    # In the thread that serves the event loop: each module of tests has a database of its own.
    close = sync_to_async(connections.close_all)
    await close()
    with site(recorder, entering, leaving, middleware=STACK):
        for name in ("entering", "leaving"):
            assert (await client.get(f"/{name}/")).content == b"ok"
    await close()
    assert identities(recorder) == [("$identify", str(ada.pk)), ("before", str(ada.pk))]


def test_connecting_twice_is_harmless(recorder: Recorder, views: Any) -> None:
    connect_auth_signals()
    connect_auth_signals()
    with site(recorder, *views, middleware=STACK):
        browser().get("/entering/")
    assert recorder.names().count("$identify") == 1


def test_it_can_be_undone_as_often_as_one_likes(recorder: Recorder, views: Any) -> None:
    before = (len(user_logged_in.receivers), len(user_logged_out.receivers))
    connect_auth_signals()
    for _ in range(2):
        disconnect_auth_signals()
    with site(recorder, *views, middleware=STACK):
        browser().get("/entering/")
    assert "$identify" not in recorder.names()
    assert (len(user_logged_in.receivers), len(user_logged_out.receivers)) == before


def test_logins_without_analytics_are_left_alone(ada: Any) -> None:
    connect_auth_signals()
    for request in (None, RequestFactory().get("/")):
        user_logged_in.send(User, request=request, user=ada)
        user_logged_out.send(User, request=request, user=ada)


@pytest.mark.parametrize("strict", [False, True])
def test_traits_that_fail_are_loud_in_development_and_harmless_in_production(
    strict: bool, views: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(user: Any) -> Any:
        raise LookupError

    recorder = Recorder(strict=strict)
    connect_auth_signals(traits=broken)
    with site(recorder, *views, middleware=STACK):
        status = browser().get("/entering/").status_code
    assert status == (500 if strict else 200)
    if not strict:
        assert "$identify" in recorder.names()
        assert "traits failed" in caplog.text


async def no_traits(user: Any) -> Any:
    return {"plan": "pro"}


def test_traits_of_an_async_function_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^connect_auth_signals: traits must be a plain function"):
        connect_auth_signals(traits=no_traits)  # type: ignore[arg-type]


def test_traits_that_would_have_to_be_awaited_are_none(views: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(strict=False)
    later: Any = lambda user: no_traits(user)  # noqa: E731, PLW0108
    connect_auth_signals(traits=later)
    with site(recorder, *views, middleware=STACK):
        browser().get("/entering/")
    assert "$identify" in recorder.names()
    assert "plan" not in str(recorder.events())
    assert "traits failed" in caplog.text
