"""`sessionsight check` and the commands on spools, with a Redis server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionsight import Client, Settings
from sessionsight.destinations import Console
from sessionsight.diagnosis.reachability import check_reachability
from sessionsight.diagnosis.redis_server import server_findings
from tests.core.cli.commands import run
from tests.core.delivery.kit import event, goal
from tests.core.delivery.spools import LANE, claim, counts, enter, letter, redis_spool
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, run_redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path, appendonly="yes") as server:
        yield server


def findings(spool: str) -> list[tuple[str, str]]:
    settings = Settings(destinations=(Console(),), spool=spool)
    return [(each.level, each.message) for each in check_reachability(Client(settings))]


# --- check ----------------------------------------------------------------------------------------


def test_a_server_that_keeps_records_is_all_right(server: RedisServer) -> None:
    [(level, message)] = findings(server.url)

    assert level == "ok"
    assert message.startswith(f"{server.url} answers (version ")


def test_a_server_that_loses_records_is_reported(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "appendonly", "no")

    assert findings(server.url) == [
        ("warning", f"{server.url} drops records when its memory is full (maxmemory-policy allkeys-lru)"),
        ("warning", f"{server.url} loses all records when it restarts"),
    ]


def test_fewer_replicas_than_a_write_waits_for_are_reported(server: RedisServer) -> None:
    assert findings(f"{server.url}&wait_replicas=1") == [
        ("warning", f"{server.url} has 0 replicas, and wait_replicas is 1"),
    ]


def test_a_replica_and_an_old_version_are_errors() -> None:
    assert [
        (each.level, each.message) for each in server_findings("x", {"redis_version": "6.2.1", "role": "slave"})
    ] == [
        ("error", "x has version 6.2.1, which is too old"),
        ("error", "x is a replica, which cannot be written"),
    ]


def test_a_server_that_is_down_is_an_error_without_its_password() -> None:
    port = free_port()

    [(level, message)] = findings(f"redis://:hunter2@127.0.0.1:{port}/0?namespace=shop")

    assert level == "error"
    assert message.startswith(f"redis://127.0.0.1:{port}/0?namespace=shop: ")
    assert "Connection refused" in message
    assert "hunter2" not in message


def test_a_user_who_may_not_read_the_configuration_is_an_error(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "+@connection")

    [(level, message)] = findings(server.url.replace("//", "//app:pw@"))

    assert level == "error"
    assert "the rights of the user" in message


def test_the_spool_of_a_newer_release_is_an_error(server: RedisServer) -> None:
    server.command("HSET", "{shop}:meta", "schema", "2")

    assert findings(server.url) == [
        ("error", f"{server.url}: a newer release has created it (version 2)"),
    ]


# --- spool and dead-letters -----------------------------------------------------------------------


@pytest.fixture
def spool(server: RedisServer) -> str:
    """A spool with four records: one delivered, two waiting, one dead."""
    spool = redis_spool(server.url)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), goal("signups", key="order:1"), event("b"), event("c")])
    first, second = claim(queue, 2)
    queue.dead_letter([letter(first)])
    queue.ack([second])
    queue.close()
    spool.close()
    return server.url


def test_the_ledger_of_a_redis_spool(spool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_SPOOL", spool)

    result = run("spool", "stats")

    assert result.exit_code == 0
    _, vendor, _, rest = result.output.splitlines()
    assert vendor.split() == ["vendor", "4", "1", "2", "1", "0"]
    assert "bytes in use; 0 processes at work" in rest
    assert " of " not in rest
    assert json.loads(run("spool", "stats", "--spool", spool, "--json").stdout)["lanes"]["vendor"]["dead"] == 1


def test_dead_letters_of_a_redis_spool_are_listed_and_queued_again(spool: str) -> None:
    [line] = run("dead-letters", "list", "--spool", spool).output.splitlines()
    assert line.split()[0] == "1"
    assert line.endswith("vendor  refused  signups")
    assert json.loads(run("dead-letters", "show", "1", "--spool", spool).output)["record"]["key"] == "order:1"

    assert run("dead-letters", "retry", "1", "--spool", spool).output == "1 queued again\n"

    again = redis_spool(spool)
    assert counts(again.lane(LANE)) == {"captured": 4, "delivered": 1, "pending": 3}
    assert [entry.record.label for entry in claim(again.lane(LANE), 1)] == ["signups"]
    again.lane(LANE).close()
    again.close()


def test_dead_letters_of_a_redis_spool_are_dropped(spool: str) -> None:
    assert run("dead-letters", "drop", "--all", "--spool", spool).output == "1 dropped\n"

    assert "(1 dead_letter_dropped)" in run("spool", "stats", "--spool", spool).output


def test_a_redis_spool_that_is_down_ends_a_command() -> None:
    port = free_port()

    result = run("spool", "stats", "--spool", f"redis://:hunter2@127.0.0.1:{port}/0?namespace=shop")

    assert result.exit_code == 1
    assert f"spool redis://127.0.0.1:{port}/0?namespace=shop: " in result.output
    assert "hunter2" not in result.output
