"""Results of `manage.py check`, and behaviour at start if they are ignored."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS

# isort: split
from django.apps import apps
from django.core import checks
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings

from sessionsight import get_client
from sessionsight_django import AnalyticsMiddleware, clients, middleware
from sessionsight_django.apps import _is_command

ANALYSE = {"analyse": {"public_key": "..."}}
SIGNAL = {"signal": {"api_key": "...", "project_id": "shop"}}


class OurOwn(AnalyticsMiddleware):
    """A site's own middleware, derived from this package's."""


def found(sessionsight: Any, *, using: tuple[str, ...] = (ANALYTICS,), **settings: Any) -> dict[str, Any]:
    with override_settings(SESSIONSIGHT=sessionsight, MIDDLEWARE=list(using), **settings):
        return {str(message.id): message for message in checks.run_checks(tags=["sessionsight"])}


@pytest.mark.parametrize(
    "middleware", [ANALYTICS, "sessionsight_django.middleware.AnalyticsMiddleware", f"{__name__}.OurOwn"]
)
def test_a_site_that_is_right_hears_nothing(middleware: str) -> None:
    assert found({"DESTINATIONS": ANALYSE}, using=(middleware,)) == {}


def test_a_wrong_setting_is_an_error_with_its_own_words() -> None:
    [(number, message)] = found({"DESTINATION": {}}).items()
    assert number == "sessionsight.E001"
    assert message.is_serious()
    assert message.msg.startswith("settings.SESSIONSIGHT: unknown option 'DESTINATION'; did you mean 'DESTINATIONS'?")
    assert found([])["sessionsight.E001"].msg == "settings.SESSIONSIGHT must be a dict of options, not list"


def test_a_spool_in_a_database_that_the_project_lacks_is_an_error() -> None:
    ours: dict[str, Any] = {"SPOOL": "django:nope", "DESTINATIONS": {"analyse": {"public_key": "..."}}}
    message = found(ours)["sessionsight.E001"].msg
    assert message == "spool: DATABASES does not contain 'nope'; known are default"
    assert "sessionsight.E001" not in found({**ours, "DISABLED": True})


def test_a_wrong_setting_never_shows_a_key() -> None:
    message = found({"DESTINATIONS": {"signal": {"api_key": "sk_live_secret", "projectid": 1}}})["sessionsight.E001"]
    assert "secret" not in str(message)


def test_a_site_without_destinations_is_told_unless_it_says_so_itself() -> None:
    assert list(found({})) == ["sessionsight.W001"]
    assert found({"DISABLED": True}) == {}


def test_destinations_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "...")
    assert found({}) == {}


@pytest.mark.parametrize(
    ("using", "number"),
    [
        ((), "sessionsight.W002"),
        (("no.such.Middleware",), "sessionsight.W002"),
        (("django.middleware.common.CommonMiddleware",), "sessionsight.W002"),
        ((ANALYTICS, ANALYTICS), "sessionsight.W003"),
        ((ANALYTICS, "sessionsight_django.middleware.AnalyticsMiddleware"), "sessionsight.W003"),
    ],
)
def test_the_middleware_is_there_once(using: tuple[str, ...], number: str) -> None:
    assert list(found({"DESTINATIONS": ANALYSE}, using=using)) == [number]
    assert list(found({"DISABLED": True}, using=using)) == [number]


@pytest.mark.parametrize(
    ("destinations", "named"),
    [
        ({"saytics": {"secret_key": "sk_live_1"}}, "saytics (secret_key)"),
        ({"analyse": {"public_key": " pk_live_1"}}, "analyse (public_key)"),
        (
            {"sessionsight": {"secret_api_key": "sessionsight_sec_1", "property_id": "shop"}},
            "sessionsight (secret_api_key)",
        ),
    ],
)
def test_production_keys_in_debug_are_named_and_not_shown(destinations: dict[str, Any], named: str) -> None:
    message = found({"DESTINATIONS": destinations}, DEBUG=True)["sessionsight.W004"]
    assert named in message.msg
    assert "_1" not in str(message)
    assert found({"DESTINATIONS": destinations}, DEBUG=False) == {}
    assert found({"DESTINATIONS": destinations, "DISABLED": True}, DEBUG=True) == {}


def test_keys_for_this_machine_are_not_taken_for_production() -> None:
    destinations = {
        "sessionsight": {
            "secret_api_key": "sessionsight_sec_local",
            "property_id": "local",
            "api_url": "http://127.0.0.1:7717",
        },
        "saytics": {"secret_key": "sk_live_local", "api_url": "http://localhost:7717"},
    }
    assert found({"DESTINATIONS": destinations}, DEBUG=True) == {}


def test_a_function_that_gives_a_key_is_not_called_for_a_check() -> None:
    def key() -> str:
        raise AssertionError

    assert found({"DESTINATIONS": {"analyse": {"public_key": key}}}, DEBUG=True) == {}


@pytest.fixture
def _corsheaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if django-cors-headers were installed."""
    is_installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "corsheaders" or is_installed(name))


@pytest.mark.usefixtures("_corsheaders")
def test_signals_headers_must_be_allowed_to_other_origins() -> None:
    options = {"DESTINATIONS": SIGNAL}
    ours = ("X-Signal-Session-Id", "x-signal-window-id", "x-signal-distinct-id")
    assert (
        "lacks x-signal-session-id, x-signal-window-id, x-signal-distinct-id:"
        in found(options)["sessionsight.W005"].msg
    )
    assert "lacks x-signal-distinct-id:" in found(options, CORS_ALLOW_HEADERS=ours[:2])["sessionsight.W005"].msg
    assert found(options, CORS_ALLOW_HEADERS=["accept", *ours]) == {}
    assert found(options, CORS_ALLOW_HEADERS=["*"]) == {}
    assert found({"DESTINATIONS": ANALYSE}) == {}


def test_without_django_cors_headers_nothing_is_asked_of_it() -> None:
    assert found({"DESTINATIONS": SIGNAL}) == {}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"SESSIONSIGHT_DESTINATIONS": {}, "SESSIONSIGHT_SPOOL": "memory"},
            "SESSIONSIGHT_DESTINATIONS, SESSIONSIGHT_SPOOL have",
        ),
        ({"SIGNAL_API_KEY": "k"}, "SIGNAL_API_KEY has"),
    ],
)
def test_options_in_settings_of_their_own_are_told_to_have_no_effect(settings: dict[str, Any], named: str) -> None:
    message = found({"CONSENT": "gpc"}, **settings)["sessionsight.W006"]
    assert message.msg == f"{named} no effect: options are read from the dict SESSIONSIGHT alone."
    assert 'SESSIONSIGHT = {"DESTINATIONS"' in message.hint


def test_settings_that_the_dict_is_made_of_are_fine() -> None:
    parts: dict[str, Any] = {"SESSIONSIGHT_SPOOL": "memory", "SIGNAL_API_KEY": "...", "SESSIONSIGHT_OF_OURS": 1}
    assert found({"SPOOL": "memory", "DESTINATIONS": SIGNAL}, **parts) == {}


# --- The app itself --------------------------------------------------------------------------------


@pytest.fixture
def _told_afresh() -> Iterator[None]:
    middleware._warn_if_not_installed.cache_clear()
    clients._clients.clear()
    yield
    middleware._warn_if_not_installed.cache_clear()
    clients._clients.clear()


@pytest.mark.usefixtures("_told_afresh")
def test_the_middleware_tells_once_that_the_app_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(INSTALLED_APPS=[], SESSIONSIGHT={"DISABLED": True}):
        for _ in range(2):
            AnalyticsMiddleware(lambda request: HttpResponse())
    [record] = [record for record in caplog.records if record.name == "sessionsight"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("sessionsight_django is not in INSTALLED_APPS: ")


@pytest.mark.usefixtures("_told_afresh")
def test_the_middleware_is_silent_when_the_app_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(MIDDLEWARE=[ANALYTICS], SESSIONSIGHT={"DISABLED": True}):
        WSGIHandler()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["manage.py", "check"], True),
        (["/srv/shop/manage.py"], True),
        (["/usr/bin/django-admin", "check"], True),
        (["/lib/python3/site-packages/django/__main__.py", "check"], True),
        (["/usr/bin/gunicorn", "shop.wsgi"], False),
        ([""], False),
        ([], False),
    ],
)
def test_commands_are_told_from_servers(argv: list[str], command: bool) -> None:
    assert _is_command(argv) is command


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A project with a wrong setting."""
    (tmp_path / "settings.py").write_text(
        'SECRET_KEY = "k"\nINSTALLED_APPS = ["sessionsight_django"]\nSESSIONSIGHT = {"FLUSH": "now"}\n'
        f'MIDDLEWARE = ["{ANALYTICS}"]\n',
        "utf-8",
    )
    (tmp_path / "manage.py").write_text(
        "import sys\nfrom django.core import management\nmanagement.execute_from_command_line(sys.argv)\n",
        "utf-8",
    )
    return tmp_path


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            "DJANGO_SETTINGS_MODULE": "settings",
            "PATH": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WRONG = "flush must be one of 'background', 'inline', not 'now'"


@pytest.mark.processes
def test_commands_say_what_is_wrong_without_a_traceback(wrong: Path) -> None:
    done = python(wrong, "manage.py", "check")
    assert done.returncode == 1
    assert f"?: (sessionsight.E001) {WRONG}" in done.stderr
    assert "Traceback" not in done.stderr
    assert python(wrong, "-m", "django", "check").stderr.count("sessionsight.E001") == 1


@pytest.mark.processes
@pytest.mark.measured_processes
def test_a_command_that_checks_nothing_runs_and_logs_what_is_wrong(wrong: Path) -> None:
    done = python(wrong, "manage.py", "shell", "-c", "print('here')")
    assert done.returncode == 0
    assert "here" in done.stdout
    assert WRONG in done.stderr


@pytest.mark.processes
def test_a_server_does_not_start(wrong: Path) -> None:
    done = python(wrong, "-c", "from django.core.wsgi import get_wsgi_application; get_wsgi_application()")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"sessionsight.errors.ConfigurationError: {WRONG}"


# --- The client of the process ---------------------------------------------------------------------------


@pytest.mark.processes
def test_an_app_by_the_name_of_the_package_is_told_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text('SECRET_KEY = "k"\nINSTALLED_APPS = ["sessionsight"]\n', "utf-8")
    done = python(tmp_path, "-m", "django", "check")
    assert done.returncode == 1
    assert (
        'INSTALLED_APPS contains "sessionsight", which is not a Django app; replace it by "sessionsight_django"'
        in done.stderr
    )


@pytest.mark.processes
def test_without_django_the_module_that_says_so_is_silent(tmp_path: Path) -> None:
    assert python(tmp_path, "-c", "import sessionsight.apps").returncode == 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose settings configure the client."""
    (tmp_path / "settings.py").write_text(
        'SECRET_KEY = "k"\nINSTALLED_APPS = ["sessionsight_django"]\n'
        'SESSIONSIGHT = {"DISABLED": True, "CONSENT": "gpc"}\n',
        "utf-8",
    )
    return tmp_path


@pytest.mark.processes
def test_get_client_is_that_of_the_settings_and_configure_objects(project: Path) -> None:
    done = python(
        project,
        "-c",
        "import django, sessionsight\n"
        "django.setup()\n"
        "print(sessionsight.get_client().settings.consent, sessionsight.get_client().defer_record is not None)\n"
        "with sessionsight.scope(user_id='ada') as analytics:\n"
        "    print(sessionsight.current() is analytics)\n"
        "sessionsight.configure(disabled=True)\n",
    )
    assert done.stdout.splitlines() == ["gpc True", "True"]
    assert done.stderr.splitlines()[-1].startswith(
        "sessionsight.errors.ConfigurationError: configure(): settings.SESSIONSIGHT configures the client of this "
        "process already; write the options there and use sessionsight.get_client()"
    )


def test_get_client_follows_the_settings_of_a_test() -> None:
    with override_settings(SESSIONSIGHT={"DISABLED": True, "CONSENT": "gpc"}):
        clients.client()
        first = get_client()
        assert first.settings.consent == "gpc"
        assert get_client() is first
        with override_settings(SESSIONSIGHT={"DISABLED": True, "CONSENT": "gpc+dnt"}):
            assert get_client().settings.consent == "gpc+dnt"
        assert get_client() is first
