"""A wrong setting keeps an ASGI server from starting, however the middleware was added."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.servers.server import BIN
from tests.support.ports import free_port
from tests.support.server import until

pytestmark = pytest.mark.servers

SHOP = """
# A server is to import no more than its own framework.
from sessionsight_asgi import AnalyticsMiddleware

WRONG = {"destinations": {"signal": {"api_key": None}}}

def starlette():
    from starlette.applications import Starlette
    app = Starlette()
    app.add_middleware(AnalyticsMiddleware, **WRONG)
    return app

def fastapi():
    from fastapi import FastAPI
    app = FastAPI()
    app.add_middleware(AnalyticsMiddleware, **WRONG)
    return app

def wrapped():
    from starlette.applications import Starlette
    return AnalyticsMiddleware(Starlette(), **WRONG)

def litestar():
    from litestar import Litestar
    return AnalyticsMiddleware(Litestar([]), **WRONG)

def quart():
    from quart import Quart
    app = Quart("shop")
    app.asgi_app = AnalyticsMiddleware(app.asgi_app, **WRONG)
    return app
"""
SAID = "destination 'signal': api_key is missing or blank; set it to the value in the vendor's dashboard"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    for name in ("starlette", "fastapi", "wrapped", "litestar", "quart"):
        (tmp_path / f"{name}_app.py").write_text(f"import shop\napp = shop.{name}()\n", "utf-8")
    return tmp_path


@contextmanager
def started(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        program, *arguments = shlex.split(command)
        server = subprocess.Popen([sys.executable, BIN / program, *arguments], cwd=folder, stdout=log, stderr=log)
        try:
            yield server
        finally:
            server.kill()
            server.wait()


@pytest.mark.parametrize("app", ["starlette", "fastapi", "wrapped", "litestar", "quart"])
def test_uvicorn_does_not_start(app: str, shop: Path) -> None:
    with started(f"uvicorn {app}_app:app --port {free_port()}", shop) as server:
        assert server.wait(60) != 0
    assert SAID in (shop / "log").read_text("utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "hypercorn starlette_app:app --bind 127.0.0.1:{port}",
        "granian --interface asgi starlette_app:app --port {port}",
        "gunicorn starlette_app:app -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port}",
    ],
    ids=lambda command: command.partition(" ")[0],
)
def test_no_server_that_tells_its_apps_of_the_start_does_start(command: str, shop: Path) -> None:
    with started(command.format(port=free_port()), shop) as server:
        server.wait(60)
    assert SAID in (shop / "log").read_text("utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "daphne -p {port} starlette_app:app",
        "uvicorn starlette_app:app --port {port} --lifespan off",
    ],
    ids=lambda command: command.partition(" ")[0],
)
def test_a_server_that_does_not_is_told_at_the_first_request(command: str, shop: Path) -> None:
    port = free_port()

    def asked() -> int:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET", "/")
                return connection.getresponse().status
            finally:
                connection.close()
        return 0

    with started(command.format(port=port), shop):
        until(asked, "it answers")
        assert asked() == 500
    assert (shop / "log").read_text("utf-8").count(f"{SAID}; no request is served until this is corrected") == 1
