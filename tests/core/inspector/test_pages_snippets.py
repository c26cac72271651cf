"""The lines to paste work as they stand, and bring records of all four vendors here."""

import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

import sessionsight
from sessionsight.capture.current import default_client, set_default_client
from sessionsight.inspector.options import DEFAULT_PORT
from sessionsight.inspector.server import RunningInspector
from sessionsight.inspector.snippets import snippets
from sessionsight.settings import Settings
from sessionsight_asgi import get_analytics
from tests.support.pages import ROOT, blocks, run

COOKIE = "ss_sid=0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11"
EVERYTHING = {"sessionsight": 1, "signal": 1, "saytics": 1, "analyse": 1}

DJANGO = """
import django
from django.conf import settings
INSTALLED_APPS, MIDDLEWARE = [], []
{lines}
SESSIONSIGHT["SHUTDOWN_TIMEOUT"] = 20.0  # for a busy machine
settings.configure(
    INSTALLED_APPS=INSTALLED_APPS, MIDDLEWARE=MIDDLEWARE, SESSIONSIGHT=SESSIONSIGHT, ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["testserver"],
)
django.setup()
from django.http import HttpResponse
from django.test import Client
from django.urls import path
def buy(request):
    request.analytics.capture("order_processed", user_id="user_1")
    request.analytics.goals.increment("orders")
    return HttpResponse()
urlpatterns = [path("buy", buy)]
assert Client(headers={{"Cookie": "{cookie}"}}).get("/buy").status_code == 200
"""


@pytest.fixture
def lines(inspector: RunningInspector, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return {one.id: one.code for one in snippets(inspector.url + "/")}


def arrived(http: httpx.Client) -> dict[str, int]:
    """The accepted records of each vendor, once there are four."""
    waited = http.get("/api/wait", params={"count": 4, "timeout": 20, "status": "accepted"})
    assert waited.json() == {"count": 4, "reached": True}
    return {vendor: count for vendor, count in http.get("/api/counts").json()["vendors"].items() if count}


@pytest.mark.processes
def test_djangos(http: httpx.Client, lines: dict[str, str]) -> None:
    program = DJANGO.format(lines=lines["django"], cookie=COOKIE)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert arrived(http) == EVERYTHING


def test_flasks(http: httpx.Client, lines: dict[str, str]) -> None:
    app = Flask("shop")
    exec(lines["flask"], {"app": app})

    @app.get("/buy")
    def buy() -> str:
        analytics = request.analytics  # type: ignore[attr-defined] # put there by the extension
        analytics.capture("order_processed", user_id="user_1")
        analytics.goals.increment("orders")
        return "Thank you"

    app.test_client(use_cookies=False).get("/buy", headers={"Cookie": COOKIE}).close()
    client = app.extensions["sessionsight"]
    assert client.flush()
    assert arrived(http) == EVERYTHING
    client.shutdown(1)


def test_asgis(http: httpx.Client, lines: dict[str, str]) -> None:
    async def buy(request: Request) -> Response:
        analytics = await get_analytics(request)
        analytics.capture("order_processed", user_id="user_1")
        analytics.goals.increment("orders")
        return Response()

    app = Starlette(routes=[Route("/buy", buy)])
    exec(lines["asgi"], {"app": app})
    with TestClient(app) as browser:
        browser.get("/buy", headers={"Cookie": COOKIE})
    assert arrived(http) == EVERYTHING


def test_the_environments(lines: dict[str, str], inspector: RunningInspector) -> None:
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines["environment"].splitlines())
    settings = Settings.from_env({name: value.strip("'") for name, value in pairs})
    destinations: dict[str, Any] = {one.name: one for one in settings.destinations}
    assert destinations.keys() == EVERYTHING.keys()
    assert destinations["sessionsight"].api_url == destinations["signal"].endpoint == inspector.url
    assert destinations["saytics"].api_url == destinations["analyse"].host == inspector.url


def test_the_documentation_has_the_same_environment_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [environment] = [one.code for one in snippets(f"http://127.0.0.1:{DEFAULT_PORT}") if one.id == "environment"]
    documented = re.findall(r"\$ (export .*\n)", (ROOT / "docs/inspector.md").read_text("utf-8"))
    assert "".join(documented) == environment
    [(_, code)] = blocks("docs/inspector.md")
    run(code)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ 0\n", capsys.readouterr().out)


@pytest.fixture(autouse=True)
def _no_default_client_is_left() -> Any:
    yield
    try:
        client = default_client()
    except sessionsight.NoClientError:
        return
    assert isinstance(client, sessionsight.Client)
    client.shutdown(1)
    set_default_client(None)
