from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.core.cli.commands import run
from tests.core.delivery.kit import event, goal
from tests.core.delivery.spools import LANE, claim, counts, enter, letter, maintain, query, sound, sqlite_spool


@pytest.fixture
def path(folder: Path) -> Path:
    """A spool with four records: one delivered, two waiting, one dead."""
    path = folder / "spool.db"
    spool = sqlite_spool(path)
    queue = spool.lane(LANE)
    enter(spool, [event("a", size=3), goal("signups", key="order:1"), event("b"), event("c")])
    dead, delivered, *_ = claim(queue, 4)
    queue.dead_letter([letter(dead, "unknown")])
    queue.ack([delivered])
    queue.close()
    spool.close()
    return path


def test_stats_show_the_outcomes_of_all_records(path: Path) -> None:
    result = run("spool", "stats", "--spool", str(path))

    assert result.exit_code == 0
    head, vendor, _, rest = result.output.splitlines()
    assert head.split() == ["lane", "captured", "delivered", "pending", "dead", "dropped"]
    assert vendor.split() == ["vendor", "4", "1", "2", "1", "0"]
    assert re.match(r"the oldest waits for \d+ s; ", rest)


def test_stats_count_the_records_that_had_to_wait_in_memory(path: Path) -> None:
    spool = sqlite_spool(path, spool_timeout=0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        enter(spool, [event("d")])
    maintain(spool)
    spool.lane(LANE).close()
    spool.close()

    assert "1 records had to wait in memory first" in run("spool", "stats", "--spool", str(path)).output


def test_stats_as_json(path: Path) -> None:
    output = json.loads(run("spool", "stats", "--spool", f"sqlite:///{path}", "--json").stdout)

    assert output["lanes"]["vendor"]["captured"] == 4
    assert output["lanes"]["vendor"]["pending"] == 2
    assert output["used_bytes"] > 0


def test_a_ledger_that_does_not_add_up_is_an_error(path: Path) -> None:
    spool = sqlite_spool(path)
    with spool.store.file.write(1) as it:
        it.execute("UPDATE counts SET number = 9 WHERE counter = 'captured'")
    spool.close()

    result = run("spool", "stats", "--spool", str(path))

    assert result.exit_code == 1
    assert "does not add up" in result.output


def test_the_spool_is_that_of_the_settings_by_default(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_SPOOL", "sqlite:///spool.db")
    assert "vendor" in run("spool", "stats").output

    monkeypatch.setenv("SESSIONSIGHT_SPOOL", "memory")
    result = run("spool", "stats")
    assert result.exit_code == 2
    assert "the spool is 'memory', which has nothing of other processes" in result.output


def test_a_missing_spool_is_not_created(folder: Path) -> None:
    result = run("spool", "stats", "--spool", "none.db")

    assert result.exit_code == 2
    assert "spool none.db: the file does not exist" in result.output
    assert not (folder / "none.db").exists()


def test_a_file_that_is_not_a_spool_is_not_changed(folder: Path) -> None:
    (folder / "notes.txt").write_text("my notes " * 1000)

    result = run("spool", "stats", "--spool", "notes.txt")

    assert result.exit_code == 1
    assert "file is not a database" in result.output
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_a_foreign_database_is_not_changed(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "db.sqlite3")) as connection:
        connection.execute("CREATE TABLE customers (name)")
    before = (folder / "db.sqlite3").read_bytes()

    result = run("spool", "stats", "--spool", "sqlite:///db.sqlite3")

    assert result.exit_code == 1
    assert "it is another program's database" in result.output
    assert (folder / "db.sqlite3").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["db.sqlite3"]


# --- dead letters ---------------------------------------------------------------------------------


def test_dead_letters_are_listed_and_shown(path: Path) -> None:
    [line] = run("dead-letters", "list", "--spool", str(path)).output.splitlines()
    number, _, lane, reason, name = line.split()
    assert (lane, reason, name) == ("vendor", "unknown", "signups")

    shown = json.loads(run("dead-letters", "show", number, "--spool", str(path)).output)

    assert shown["message"] == "no such goal"
    assert shown["status"] == 400
    assert shown["attempts"] == 1
    assert shown["kind"] == "goal"
    assert shown["record"]["goal_id"] == "signups"
    assert shown["record"]["key"] == "order:1"
    assert shown["context"] == {"ss_user_id": "user_1"}
    assert json.loads(run("dead-letters", "list", "--spool", str(path), "--json").stdout) == [shown]
    assert run("dead-letters", "show", "99", "--spool", str(path)).exit_code == 1


def test_an_amount_is_a_number(folder: Path) -> None:
    path = folder / "spool.db"
    spool = sqlite_spool(path)
    paid = goal("revenue")
    enter(spool, [replace(paid, record=replace(paid.record, amount=Decimal("49.90")))])
    queue = spool.lane(LANE)
    queue.dead_letter([letter(claim(queue, 1)[0], "refused")])
    queue.close()
    spool.close()

    assert '"amount": 49.90' in run("dead-letters", "show", "1", "--spool", str(path)).output
    assert '"amount":49.90' in run("dead-letters", "list", "--json", "--spool", str(path)).output


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        (["--lane", "vendor"], 1),
        (["--lane", "other"], 0),
        (["--reason", "unknown"], 1),
        (["--reason", "refused"], 0),
        (["--newer-than", "1h"], 1),
        (["--older-than", "1h"], 0),
        (["--older-than", "0s", "--reason", "unknown", "--lane", "vendor"], 1),
    ],
)
def test_filters(path: Path, filters: list[str], number: int) -> None:
    assert len(json.loads(run("dead-letters", "list", *filters, "--spool", str(path), "--json").stdout)) == number
    assert run("dead-letters", "retry", *filters, "--spool", str(path)).output == f"{number} queued again\n"
    assert sound(path)


def test_a_retried_dead_letter_is_queued_as_new(path: Path) -> None:
    before = query(path, "SELECT max(enqueued_at) FROM queue")

    assert run("dead-letters", "retry", "1", "--spool", str(path)).exit_code == 0

    spool = sqlite_spool(path)
    assert counts(spool.lane(LANE)) == {"captured": 4, "delivered": 1, "pending": 3}
    [again] = claim(spool.lane(LANE), 1)
    assert again.record.label == "signups"
    assert again.enqueued_at > before[0][0]
    assert again.record.key == "order:1"  # it is not duplicated
    spool.lane(LANE).close()
    spool.close()
    assert sound(path)


def test_a_dropped_dead_letter_is_counted(path: Path) -> None:
    assert run("dead-letters", "drop", "--all", "--spool", str(path)).output == "1 dropped\n"

    assert "(1 dead_letter_dropped)" in run("spool", "stats", "--spool", str(path)).output
    assert "there are none" in run("dead-letters", "list", "--spool", str(path)).output
    assert sound(path)


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_changing_all_dead_letters_requires_all(path: Path, verb: str) -> None:
    assert run("dead-letters", verb, "--spool", str(path)).exit_code == 2
    assert run("dead-letters", verb, "1", "--all", "--spool", str(path)).exit_code == 2
    assert query(path, "SELECT count(*) FROM sessionsight_dead_letter") == [(1,)]


@pytest.mark.parametrize(
    "arguments", [("show", "9" * 20), ("retry", "9" * 20), ("drop", "0"), ("list", "--limit", "9" * 20)]
)
def test_an_invalid_number_exits_with_2(path: Path, arguments: tuple[str, ...]) -> None:
    result = run("dead-letters", *arguments, "--spool", str(path))

    assert result.exit_code == 2
    assert "is not in the range" in result.output


def test_a_duration_has_a_unit(path: Path) -> None:
    result = run("dead-letters", "list", "--older-than", "7", "--spool", str(path))

    assert result.exit_code == 2
    assert "write 90s, 15m, 12h or 7d" in result.output


def test_an_unreadable_dead_letter_is_shown_raw(path: Path) -> None:
    spool = sqlite_spool(path)
    with spool.store.file.write(1) as it:
        it.execute("UPDATE sessionsight_dead_letter SET body = x'ff'")
    spool.close()

    shown = json.loads(run("dead-letters", "show", "1", "--spool", str(path)).output)

    assert shown["unreadable"] == "/w=="
    assert run("dead-letters", "list", "--spool", str(path)).output.split()[-1] == "?"
