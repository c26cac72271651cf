"""Records that must be written by the open transaction: `in_transaction=True`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.django_site import asgi, site

# isort: split
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import TestCase

from sessionsight import InvalidEventError
from sessionsight.testing import record
from tests.adapters.django_orders import Refund, recording
from tests.adapters.outbox_databases import ENGINES, close_connection, outbox_database, rows
from tests.adapters.recording import Recorder
from tests.adapters.test_django_outbox import delivered, outbox_recorder


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with outbox_database(request.param, tmp_path, "default") as alias:
        yield alias


@pytest.fixture
def strict(database: str) -> Iterator[Recorder]:
    recorder = outbox_recorder(strict=True)
    yield recorder
    recorder.client.shutdown(0)


@pytest.fixture
def lenient(database: str) -> Iterator[Recorder]:
    recorder = outbox_recorder(strict=False)
    yield recorder
    recorder.client.shutdown(0)


def capture_all(recorder: Recorder, **options: Any) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    analytics.capture("bought", in_transaction=True, **options)
    analytics.identify("user_1", {"plan": "pro"}, in_transaction=True, **options)
    analytics.goals.increment("signups", session_id="s1", in_transaction=True, **options)


def test_every_kind_of_record_is_written_by_the_transaction(strict: Recorder, database: str) -> None:
    for using in (None, "default"):
        with transaction.atomic():
            capture_all(strict, using=using)
            assert rows(database, "inbox") == 2  # no destination takes the goal
            transaction.set_rollback(True)
    assert rows(database, "inbox") == 0
    with transaction.atomic():
        capture_all(strict)
    assert rows(database, "inbox") == 2


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_without_a_transaction_strict_mode_raises_and_captures_nothing(strict: Recorder, database: str) -> None:
    analytics = strict.client.bind(user_id="user_1")
    message = r"the spool's database has no open one; capture inside atomic\(\)"
    with pytest.raises(InvalidEventError, match=message):
        analytics.capture("bought", in_transaction=True)
    with pytest.raises(InvalidEventError, match=message):
        analytics.capture("bought", in_transaction=True, using="default")
    with pytest.raises(InvalidEventError, match=message):
        analytics.identify("user_1", in_transaction=True)
    with pytest.raises(InvalidEventError, match=message):
        analytics.goals.decrement("signups", session_id="s1", in_transaction=True)
    assert rows(database, "inbox") == 0


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_otherwise_it_is_logged_once_and_captured(
    lenient: Recorder, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    analytics = lenient.client.bind(user_id="user_1")
    for _ in range(3):
        assert analytics.capture("bought", in_transaction=True).accepted
    assert caplog.text.count("the record cannot be part of a transaction") == 1
    assert rows(database, "inbox") == 3
    assert lenient.client.stats().rejected == 0
    assert delivered(lenient) == ["bought"] * 3


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_the_transaction_of_another_database_does_not_count(strict: Recorder, tmp_path: Path) -> None:
    analytics = strict.client.bind(user_id="user_1")
    with (
        outbox_database("sqlite_orm", tmp_path, "other"),
        transaction.atomic(using="other"),
        pytest.raises(InvalidEventError, match="has no open one"),
    ):
        analytics.capture("bought", using="other", in_transaction=True)


def test_without_an_outbox_there_is_no_transaction_to_be_written_by() -> None:
    recorder = recording(strict=True)
    with pytest.raises(InvalidEventError, match="it needs spool='django'"):
        recorder.client.bind(user_id="user_1").capture("bought", in_transaction=True)


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_a_missing_table_is_reported_as_well(strict: Recorder, database: str) -> None:
    with connections[database].cursor() as cursor:
        cursor.execute("ALTER TABLE sessionsight_inbox RENAME TO moved")
    with transaction.atomic(), pytest.raises(InvalidEventError, match="could not be written in it"):
        strict.client.bind(user_id="user_1").capture("bought", in_transaction=True)
    assert strict.client.stats().lanes["analyse"].captured == 0


@pytest.mark.parametrize("options", [{"on_commit": False}, {"in_transaction": "yes"}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    analytics = recording(strict=True).client.bind(user_id="user_1")
    with pytest.raises(InvalidEventError, match="in_transaction"):
        analytics.capture("bought", **{"in_transaction": True, **options})
    with pytest.raises(InvalidEventError, match="in_transaction"):
        analytics.goals.increment("signups", **{"in_transaction": True, **options})


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
async def test_an_async_view_has_to_capture_on_a_thread(strict: Recorder, database: str) -> None:
    errors: list[str] = []

    async def view(request: Any) -> HttpResponse:
        try:
            request.analytics.capture("on_the_loop", in_transaction=True)
        except InvalidEventError as error:
            errors.append(str(error))
        await sync_to_async(buy)(request.analytics)
        return HttpResponse("ok")

    def buy(analytics: Any) -> None:
        with transaction.atomic():
            analytics.capture("in_a_thread", in_transaction=True)
        close_connection("default")

    await sync_to_async(close_connection)(database)  # that thread may have one of an earlier test
    with site(strict, view):
        sent = await asgi(ASGIHandler(), "/view/")
    assert sent[0]["status"] == 200
    assert "transactions cannot be used on an event loop; capture inside sync_to_async" in errors[0]
    assert await sync_to_async(delivered)(strict) == ["in_a_thread"]
    await sync_to_async(close_connection)(database)


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_a_test_that_records_needs_the_transaction_as_well(lenient: Recorder) -> None:
    analytics = lenient.client.bind(user_id="user_1")
    with record() as seen:
        with pytest.raises(InvalidEventError, match=r"capture inside atomic\(\)"):
            analytics.capture("outside", in_transaction=True)
        with suppress(Refund), transaction.atomic():
            analytics.capture("lost", in_transaction=True)
            raise Refund
        with transaction.atomic():
            analytics.capture("kept", in_transaction=True)
        assert [one.name for one in seen.captured] == ["kept"]


@pytest.mark.parametrize("database", ["sqlite_orm"], indirect=True)
def test_the_transaction_of_a_test_case_does_not_count(lenient: Recorder) -> None:
    class Case(TestCase):
        def test(self) -> None:
            with record() as seen:
                with transaction.atomic():
                    lenient.client.bind(user_id="user_1").capture("kept", in_transaction=True)
                with pytest.raises(InvalidEventError):
                    lenient.client.bind(user_id="user_1").capture("outside", in_transaction=True)
            seen.assert_captured("kept")

    result = Case("test").run()
    assert result is not None
    assert result.wasSuccessful(), result.errors + result.failures
