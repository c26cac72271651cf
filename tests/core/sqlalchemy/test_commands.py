"""Commands that read the outbox of SQLAlchemy, and relays that deliver it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessionsight import Client, Settings
from sessionsight.destinations import Console, Signal
from sessionsight.diagnosis import check, sql_database
from sessionsight.diagnosis.reachability import check_reachability
from tests.adapters.recording import Recorder
from tests.core.cli.commands import run, start
from tests.core.delivery.kit import tally
from tests.core.sqlalchemy.orders import (
    on_sqlite,
)
from tests.core.sqlalchemy_databases import execute
from tests.support.server import Server


def findings(url: str) -> list[tuple[str, str]]:
    settings = Settings(destinations=(Console(),), spool=f"sqlalchemy:{url}")
    return [(each.level, each.message) for each in check_reachability(Client(settings))]


def test_the_check_connects_and_reads_the_tables(database: str) -> None:
    [(level, message)] = findings(database)
    assert level == "ok"
    assert " answers (version " in message
    execute(database, "INSERT INTO sessionsight_inbox (batch_id, body, created_at) VALUES ('b', :body, 0)", body=b"")
    [(level, message)] = findings(database)
    assert level == "warning"
    assert "has records that no relay has taken in for" in message
    execute(database, "ALTER TABLE sessionsight_queue DROP COLUMN takeovers")
    [(level, message)] = findings(database)
    assert level == "error"
    assert "takeovers" in message or "does not exist" in message
    assert "\n" not in message
    execute(database, "DROP TABLE sessionsight_owner")
    [(level, message)] = findings(database)
    assert level == "error"
    assert message.endswith("the tables are missing: create those of sessionsight.sqlalchemy.metadata")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_the_check_finds_an_old_server(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_database, "_OLDEST", dict.fromkeys(sql_database._OLDEST, (99, 0, 0)))
    [(level, message)] = findings(database)
    assert level == "error"
    assert message.endswith("which is too old")


@on_sqlite
def test_commands_read_the_spool(recorder: Recorder, capture: Any) -> None:
    capture("bought")
    output = run("spool", "stats", "--spool", recorder.client.settings.spool).output
    assert [line.split()[:2] for line in output.splitlines() if line.startswith("analyse")] == [["analyse", "1"]]
    [message] = [finding.message for finding in check(recorder.client) if finding.subject == "spool"]
    assert message == f"is {recorder.client.settings.spool}"


def test_commands_do_not_create_a_file(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    result = run("spool", "stats", "--spool", f"sqlalchemy:sqlite:///{path}")
    assert f"the file {path} does not exist, so the tables are missing" in result.output
    assert not path.exists()


@pytest.mark.processes
def test_a_relay_delivers_what_was_committed(make: Any, database: str, tmp_path: Path) -> None:
    with Server() as server:
        destination = Signal(api_key="key", project_id="shop", endpoint=server.url)
        web = Recorder(
            destinations=(destination,), spool=f"sqlalchemy:{database}", delivery="relay", spool_timeout=20.0
        )
        with make.begin():
            web.client.bind(user_id="user_1").capture("bought")
        environ = {
            "SIGNAL_API_KEY": "key",
            "SIGNAL_PROJECT_ID": "shop",
            "SIGNAL_ENDPOINT": server.url,
            "SESSIONSIGHT_SPOOL": f"sqlalchemy:{database}",
        }
        ran = start("relay", "--once", folder=tmp_path, environ=environ)
        assert ran.returncode == 0, ran.stderr
        server.wait_for(1)
    assert tally(web.client.stats().lanes["signal"]) == {"captured": 1, "delivered": 1}
    web.client.shutdown(0)
