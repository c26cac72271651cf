"""The analytics of apps, of Django projects, and of the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.core.cli.commands import run, start
from tests.core.cli.conftest import WriteModule

MADE = 'destinations={"saytics": {"secret_key": "key_1"}}'
FOUND = "ok       saytics   configured by the settings\n"

APPS = {
    "a client": f"import sessionsight\napp = sessionsight.Client(sessionsight.Settings.from_mapping(dict({MADE})))",
    "Flask": f"""
from flask import Flask
from sessionsight_flask import SessionSight
app = Flask("shop")
app.config.update(SESSIONSIGHT_{MADE.replace("destinations", "DESTINATIONS")})
SessionSight(app)
""",
    "WSGI": f"from sessionsight.wsgi import AnalyticsMiddleware\napp = AnalyticsMiddleware(print, {MADE})",
    "ASGI": f"from sessionsight_asgi import AnalyticsMiddleware\napp = AnalyticsMiddleware(print, {MADE})",
    "Starlette": f"""
from starlette.applications import Starlette
from sessionsight_asgi import AnalyticsMiddleware
app = Starlette()
app.add_middleware(AnalyticsMiddleware, {MADE})
""",
    "FastAPI, inside another middleware": f"""
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from sessionsight_asgi import AnalyticsMiddleware
app = FastAPI()
app.add_middleware(AnalyticsMiddleware, {MADE})
app = CORSMiddleware(app)
""",
    "configured beside the app": f"import sessionsight\nsessionsight.configure({MADE})\napp = print",
}


@pytest.mark.parametrize("code", APPS.values(), ids=APPS)
def test_an_apps_analytics_are_found(code: str, write: WriteModule) -> None:
    module = write(code)
    result = run("check", "--offline", "--app", f"{module}:app")
    assert result.exit_code == 0
    assert result.output.startswith(f"ok       settings  taken from the app {module}:app\n{FOUND}")


def test_the_named_one_of_two_apps_is_used(write: WriteModule) -> None:
    module = write(f"""
from sessionsight.wsgi import AnalyticsMiddleware
other = AnalyticsMiddleware(print, destinations={{}})
class shop:
    web = AnalyticsMiddleware(print, {MADE})
""")
    assert FOUND in run("check", "--offline", "--app", f"{module}:shop.web").output


def test_a_factory_is_called(write: WriteModule) -> None:
    module = write(
        "def create_app():\n" + "".join(f"    {line}\n" for line in APPS["WSGI"].splitlines()) + "    return app"
    )
    assert FOUND in run("check", "--offline", "--app", f"{module}:create_app()").output


def test_an_invalid_setting_of_an_app_is_reported(write: WriteModule) -> None:
    module = write(
        "from starlette.applications import Starlette\nfrom sessionsight_asgi import AnalyticsMiddleware\n"
        'app = Starlette()\napp.add_middleware(AnalyticsMiddleware, destinations={"signal": {"api_key": None}})'
    )
    result = run("check", "--json", "--app", f"{module}:app")
    assert result.exit_code == 1
    [finding] = json.loads(result.stdout)["findings"]
    assert "destination 'signal': api_key is missing or blank" in finding["message"]


def test_an_app_without_analytics_is_reported(write: WriteModule) -> None:
    result = run("check", "--json", "--app", f"{write('app = print')}:app")
    assert result.exit_code == 1
    [finding] = json.loads(result.stdout)["findings"]
    assert "install one of the middlewares" in finding["message"]


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("shop", "'shop' is not of the form module:app or module:create_app()"),
        ("shop.nowhere:app", "shop.nowhere:app cannot be loaded: No module named 'shop'"),
        ("json:app", "has no 'app'"),
    ],
)
def test_a_missing_app_exits_with_2(app: str, message: str) -> None:
    result = run("check", "--app", app)
    assert result.exit_code == 2
    assert message in result.output


def test_an_app_that_wraps_itself_is_searched_once(write: WriteModule) -> None:
    module = write("class App:\n    pass\n\napp = App()\napp.app = app")
    assert "install one of the middlewares" in run("check", "--app", f"{module}:app").output


def test_an_app_that_fails_shows_its_own_traceback(write: WriteModule) -> None:
    module = write("raise LookupError('the shop is closed')")
    with pytest.raises(LookupError, match="closed"):
        run("check", "--app", f"{module}:app")


def test_app_and_django_settings_exclude_each_other() -> None:
    assert run("check", "--app", "a:b", "--django-settings", "c").exit_code == 2


# --- Django, which can be set up once in a process -------------------------------------------------

PROJECT = f"""
SECRET_KEY = "x"
INSTALLED_APPS = ["sessionsight_django"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
SESSIONSIGHT = dict({MADE})
"""


@pytest.fixture
def project(folder: Path) -> Path:
    (folder / "shop_settings.py").write_text(PROJECT)
    return folder


@pytest.mark.processes
@pytest.mark.measured_processes
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_django_projects_analytics_are_found(by: str, project: Path) -> None:
    if by == "option":
        ran = start("check", "--offline", "--django-settings", "shop_settings", folder=project)
    else:
        ran = start("check", "--offline", folder=project, environ={"DJANGO_SETTINGS_MODULE": "shop_settings"})
    assert ran.stdout.startswith(f"ok       settings  taken from the Django settings shop_settings\n{FOUND}")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.processes
@pytest.mark.measured_processes
def test_an_invalid_setting_of_a_project_is_an_error(project: Path) -> None:
    (project / "shop_settings.py").write_text(PROJECT + "SESSIONSIGHT['LINGR'] = 1\n")
    ran = start("check", "--django-settings", "shop_settings", folder=project)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "did you mean 'LINGER'?" in ran.stdout


@pytest.mark.processes
@pytest.mark.measured_processes
def test_a_project_without_the_app_is_reported(project: Path) -> None:
    (project / "shop_settings.py").write_text("SECRET_KEY = 'x'\n")
    ran = start("check", "--django-settings", "shop_settings", folder=project)
    assert ran.returncode == 1
    assert "add 'sessionsight_django' to INSTALLED_APPS" in ran.stdout


@pytest.mark.processes
@pytest.mark.measured_processes
def test_missing_settings_exit_with_2(folder: Path) -> None:
    ran = start("check", "--django-settings", "nowhere.settings", folder=folder)
    assert ran.returncode == 2
    assert ran.stderr.endswith("the Django settings nowhere.settings cannot be loaded: No module named 'nowhere'\n")


@pytest.mark.processes
@pytest.mark.measured_processes
def test_a_spool_of_django_without_its_settings_is_an_error(folder: Path) -> None:
    environ = {"SESSIONSIGHT_SPOOL": "django", "ANALYSE_KEY": "pk_live_1"}
    ran = start("relay", "--once", folder=folder, environ=environ)
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: spool: a database of Django needs the settings of a project: set DJANGO_")


def test_without_django_its_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.cli.target.find_spec", lambda name: None)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop_settings")
    assert "taken from the environment" in run("check", "--offline").output
    result = run("check", "--django-settings", "shop_settings")
    assert result.exit_code == 1
    assert "pip install 'sessionsight[django]'" in result.output


def test_a_default_client_of_another_type_is_reported(write: WriteModule) -> None:
    module = write(
        "from sessionsight.capture.current import set_default_client\nset_default_client(object())\napp = print"
    )
    result = run("check", "--offline", "--app", f"{module}:app")
    assert result.exit_code == 1
    assert "the app's client was replaced by another object" in result.output
