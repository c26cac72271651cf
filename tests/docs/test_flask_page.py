"""docs/flask.md runs."""

import os
from typing import Any

import pytest
from werkzeug.test import Client as Browser

from sessionsight import Client
from tests.support.pages import block, blocks, run

PAGE = "docs/flask.md"
NAMES = ["program", "environment", "user", "page", "wsgi"]


def captured(client: Client) -> dict[str, int]:
    return {name: lane.captured for name, lane in client.stats().lanes.items()}


def client_of(app: Any) -> Client:
    client = app.extensions["sessionsight"]
    assert isinstance(client, Client)
    return client


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert [name for name, _ in blocks(PAGE)] == NAMES


def test_the_program_captures_in_views_streams_and_error_handlers() -> None:
    app = run(block(PAGE, "program"))["app"]
    browser = app.test_client()
    counts = []
    for method, path, status in (("POST", "/orders", 201), ("GET", "/export", 200), ("GET", "/missing", 404)):
        with browser.open(path, method=method) as response:
            assert response.status_code == status
            response.get_data()
        counts.append(captured(client_of(app))["signal"])
    assert counts == [2, 3, 4]


def test_the_program_gives_each_app_of_its_factory_a_client() -> None:
    example = run(block(PAGE, "program"))
    other = example["create_app"]({"SESSIONSIGHT_DISABLED": True})
    assert client_of(other) is not client_of(example["app"])
    with other.app_context():
        assert example["analytics"].client is client_of(other)
        example["process"]("ord_1")


def test_prefixed_variables_configure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    settings = client_of(run(block(PAGE, "environment"))["app"]).settings
    assert ([one.name for one in settings.destinations], settings.consent) == (["signal"], "gpc")


def test_the_function_reads_the_user_from_the_session() -> None:
    app = run(block(PAGE, "user"))["app"]
    assert app.test_client().post("/login").text == "Welcome"
    # Without user and visitor, Analyse.net would not take the record.
    assert client_of(app).stats().lanes["analyse"].dropped == {}
    assert captured(client_of(app)) == {"analyse": 1}


def test_the_page_tells_its_scripts_the_ids() -> None:
    browser = run(block(PAGE, "page"))["app"].test_client()
    browser.set_cookie("ss_vid", "visitor-1")
    response = browser.get("/")
    expected = (
        '<script type="application/json" id="sessionsight-config">{"sessionsight":{"visitorId":"visitor-1"}}</script>'
    )
    assert response.text == expected
    assert (response.headers["Cache-Control"], response.headers["Vary"]) == ("private", "Cookie")


def test_the_wsgi_app_captures() -> None:
    app = run(block(PAGE, "wsgi"))["app"]
    with Browser(app).get("/", environ_overrides={"REMOTE_USER": "ada"}) as response:
        assert response.status_code == 204
    assert app.client.stats().lanes["analyse"].dropped == {}
    assert captured(app.client) == {"analyse": 1}
