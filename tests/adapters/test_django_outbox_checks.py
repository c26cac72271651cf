"""`manage.py check` and the commands report on a spool in the app's database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS

# isort: split
from django.core import checks
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from sessionsight import Client, MissingDependencyError, Settings
from sessionsight.diagnosis import check
from sessionsight.sql_store.dialect import now
from sessionsight_django import clients
from sessionsight_django.outbox.connection import own_connection
from tests.adapters.outbox_databases import ENGINES, close_connection, outbox_database, outbox_spool
from tests.adapters.test_commands import run_django
from tests.adapters.test_django_checks import ANALYSE, found
from tests.core.delivery.kit import event, labels
from tests.core.delivery.spools import claim, counts, enter
from tests.support.own_transactions import transaction
from tests.support.pgbouncer import run_pgbouncer

OUTBOX = {"DESTINATIONS": ANALYSE, "SPOOL": "django", "DELIVERY": "relay"}


class NoMigrations:
    """A router that keeps the tables out of all databases."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "sessionsight_outbox" else None


def found_in_database(**settings: Any) -> dict[str, str]:
    with override_settings(SESSIONSIGHT={**OUTBOX, **settings}, MIDDLEWARE=[ANALYTICS]):
        messages = checks.run_checks(tags=[checks.Tags.database], databases=["default"])
    return {str(message.id): str(message) for message in messages if str(message.id).startswith("sessionsight")}


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_migrations_are_found_where_the_database_may_be_read(engine: str, tmp_path: Path) -> None:
    with outbox_database(engine, tmp_path, "default", migrate=False):
        message = found_in_database()["sessionsight.W009"]
        assert "lacks migrations in the database 'default' (initial)" in message.replace("0001_", "")
        assert "manage.py migrate --database default" in message
        assert found_in_database(DISABLED=True) == {}
        call_command("migrate", "sessionsight_outbox", verbosity=0)
        assert found_in_database() == {}


def test_migrations_that_are_about_to_run_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with outbox_database("sqlite_orm", tmp_path, "default", migrate=False):
        monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
        assert found_in_database() == {}
        monkeypatch.setattr(sys, "argv", ["manage.py", "check"])
        assert [*found_in_database()] == ["sessionsight.W009"]


@pytest.mark.parametrize("engine", ENGINES)
def test_records_that_no_relay_takes_in_are_found(engine: str, tmp_path: Path) -> None:
    with outbox_database(engine, tmp_path, "default") as alias:
        with connections[alias].cursor() as cursor:
            cursor.execute(
                f"INSERT INTO sessionsight_inbox (batch_id, body, created_at) SELECT 'b', '', {now(cursor.db)}"
            )
            assert found_in_database() == {}
            cursor.execute("UPDATE sessionsight_inbox SET created_at = created_at - 600")
        message = found_in_database()["sessionsight.W010"]
        assert "has records that no relay has taken in for 10 minutes" in message


def test_an_old_transaction_is_found_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with outbox_database("postgresql", tmp_path, "default") as alias:
        own = own_connection(alias)
        with transaction(own) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM sessionsight_inbox")
            assert found_in_database() == {}
            monkeypatch.setattr("sessionsight.diagnosis.sql_database._MAX_TRANSACTION", 0.0)
            assert "keeps PostgreSQL from removing deleted rows" in found_in_database()["sessionsight.W011"]
        own.close()


def test_deleted_rows_that_postgresql_keeps_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with outbox_database("postgresql", tmp_path, "default") as alias:
        with connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE sessionsight_count SET (autovacuum_enabled = off)")
            cursor.execute(
                "INSERT INTO sessionsight_count (lane, counter, number) SELECT 'a', 'b', 1 FROM generate_series(1, 50)"
            )
            cursor.execute("DELETE FROM sessionsight_count")
            cursor.execute("SELECT pg_stat_force_next_flush()")
        assert "sessionsight.W012" not in found_in_database()
        monkeypatch.setattr("sessionsight.diagnosis.sql_database._MAX_DEAD_ROWS", 49)
        message = found_in_database()["sessionsight.W012"]
        assert "sessionsight_count has 50 deleted rows that PostgreSQL has not removed, and 0 others" in message
        assert "run VACUUM sessionsight_count" in message


def test_a_pooler_that_django_is_not_set_up_for_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGOPTIONS")  # it passes on no options
    with outbox_database("postgresql", tmp_path, "default") as alias:
        settings = connections.settings[alias]
        with run_pgbouncer(tmp_path, settings) as port:
            close_connection(alias)
            direct, settings["PORT"] = settings["PORT"], str(port)
            message = found_in_database()["sessionsight.W013"]
            assert "if it pools transactions: 'DISABLE_SERVER_SIDE_CURSORS': True; relays need nothing else" in message
            close_connection(alias)
            settings.update(DISABLE_SERVER_SIDE_CURSORS=True, OPTIONS={"prepare_threshold": 5})
            assert "no prepare_threshold in OPTIONS" in found_in_database()["sessionsight.W013"]
            close_connection(alias)
            settings["OPTIONS"] = {}
            assert found_in_database() == {}

            spool = outbox_spool(alias, "analyse")
            enter(spool, [event("a"), event("b")], lane="analyse")
            queue = spool.lane("analyse")
            claimed = claim(queue, 2)
            assert labels(claimed) == ["a", "b"]
            queue.ack(claimed)
            assert counts(queue) == {"captured": 2, "delivered": 2}
            spool.close()
            close_connection(alias)
            settings["PORT"] = direct


def test_a_database_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "default", migrate=False):
        connections["default"].settings_dict["NAME"] = str(tmp_path / "no" / "folder")
        assert "cannot be read: unable to open database file" in found_in_database()["sessionsight.W009"]


def test_a_wrong_setting_is_left_to_the_other_check() -> None:
    assert found_in_database(FLUSH="inline") == {}


def test_an_app_that_is_not_installed_is_found() -> None:
    message = found(OUTBOX, INSTALLED_APPS=["sessionsight_django"])["sessionsight.W007"]
    assert "lacks sessionsight_django.outbox" in message.msg
    with override_settings(INSTALLED_APPS=["sessionsight_django"]):
        assert found_in_database() == {}


def test_a_router_that_keeps_the_tables_out_is_found() -> None:
    message = found(OUTBOX, DATABASE_ROUTERS=[f"{__name__}.NoMigrations"])["sessionsight.W008"]
    assert "keep the tables of the spool out of the database 'default'" in message.msg


def test_the_commands_find_the_same_and_read_the_spool(tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "default", migrate=False):
        code, output = run_django(OUTBOX, "check", "--offline")
        assert "is the database 'default' of the Django project" in output
        assert "lacks migrations" in output
        call_command("migrate", "sessionsight_outbox", verbosity=0)
        with override_settings(SESSIONSIGHT=OUTBOX):
            clients.client().bind(user_id="user_1").capture("bought")
        code, output = run_django(OUTBOX, "spool", "stats")
    clients._clients.clear()
    assert code == 0
    assert [line.split()[:2] for line in output.splitlines() if line.startswith("analyse")] == [["analyse", "1"]]


def test_the_check_of_a_client_names_the_database() -> None:
    client = Client(Settings.from_mapping({"destinations": ANALYSE, "spool": "django:default"}))
    messages = [finding.message for finding in check(client) if finding.subject == "spool"]
    assert messages == ["is the database 'default' of the Django project"]


def test_without_django_the_spool_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sessionsight_django.outbox.store", None)
    with pytest.raises(MissingDependencyError, match=r"spool: 'django' needs Django: pip install"):
        Client(Settings.from_mapping({"destinations": ANALYSE, "spool": "django"}))
