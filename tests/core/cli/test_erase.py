from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessionsight import Client, Settings
from sessionsight.destinations import Saytics
from tests.core.cli.commands import run
from tests.support.server import PATIENCE, Server, reply


@pytest.fixture(autouse=True)
def _vendors(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYTICS_SECRET_KEY", "sk_live_12345")
    monkeypatch.setenv("SAYTICS_API_URL", server.url)


def test_a_user_is_deleted_and_vendors_without_a_request_are_named(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SECRET_API_KEY", "key_2"), ("PROPERTY_ID", "p"), ("API_URL", server.url)):
        monkeypatch.setenv(f"SESSIONSIGHT_{name}", value)
    result = run("erase", "user_1", "--timeout", "20")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "warning  sessionsight  has no request that deletes a user",
            "                       delete the user in the vendor's dashboard, or ask its support",
            "ok       saytics       the user is deleted",
        ],
    )
    [request] = server.requests
    assert (request.method, request.target) == ("DELETE", "/v1/users/user_1")


def test_a_user_is_dropped_from_a_durable_spool(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = f"sqlite:///{tmp_path / 'spool.db'}"
    server.answer = reply(400)
    destination = Saytics(secret_key="sk_live_12345", api_url=server.url)
    shop = Client(Settings(destinations=(destination,), spool=spool, trust_env=False))
    for _ in range(2):
        shop.analytics.capture("seen", user_id="user_1")
    assert shop.flush(PATIENCE)
    shop.shutdown(0)
    server.answer = reply(404)
    monkeypatch.setenv("SESSIONSIGHT_SPOOL", spool)

    result = run("erase", "user_1")

    expected = "warning  saytics  does not know this user; 2 queued records dropped\n"
    assert (result.exit_code, result.output) == (0, expected)


def test_a_failure_exits_with_1_also_with_json(server: Server) -> None:
    server.will(reply(401, body=b'{"error": {"code": "invalid_key"}}'))
    result = run("erase", "user_1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "findings": [
            {
                "level": "error",
                "subject": "saytics",
                "message": "not deleted: HTTP 401, invalid_key",
                "hint": "repeat the command; nothing is retried",
            }
        ],
    }


def test_a_call_without_a_response_exits_with_1(server: Server) -> None:
    server.close()
    result = run("erase", "user_1")
    assert result.exit_code == 1
    assert result.output.startswith("error    saytics  not deleted: NotSent: ")


def test_an_invalid_user_id_is_an_error(server: Server) -> None:
    result = run("erase", "")
    assert result.exit_code == 1
    assert "user_id must be the id of a user" in result.output


def test_without_destinations_there_is_nothing_to_erase(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_DISABLED", "1")
    result = run("erase", "user_1")
    assert result.exit_code == 1
    assert server.requests == []
