"""The pages of Django's admin about a spool in the app's database."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.django_site import AUTH, SESSIONS, browser

# isort: split
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import override_settings
from django.urls import clear_url_caches, path

from sessionsight.capture.current import set_default_client
from sessionsight.stores import DeadLetterQuery, Failure, Outcome
from sessionsight_django.outbox.models import DeadLetter, QueuedRecord
from sessionsight_django.outbox.store import DjangoStore
from tests.adapters.outbox_databases import ENGINES, outbox_database, outbox_store
from tests.adapters.recording import Recorder

MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
CONTEXT = ["auth.context_processors.auth", "messages.context_processors.messages"]
INSTALLED = (*settings.INSTALLED_APPS, "django.contrib.admin", "django.contrib.messages")

urlpatterns: list[Any] = []


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DjangoStore]:
    """A spool with a record that waits, and two dead letters of which one cannot be read."""
    templates = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
    templates["OPTIONS"]["context_processors"] += [f"django.contrib.{name}" for name in CONTEXT]  # type: ignore[index]
    recorder = Recorder(spool="django", delivery="relay")
    with (
        override_settings(
            ROOT_URLCONF=__name__,
            INSTALLED_APPS=INSTALLED,
            MIDDLEWARE=[SESSIONS, AUTH, MESSAGES],
            TEMPLATES=[templates],
        ),
        outbox_database(request.param, tmp_path, "default", reuse="admin"),
    ):
        call_command("migrate", verbosity=0)
        urlpatterns[:] = [path("admin/", admin.site.urls)]
        clear_url_caches()
        set_default_client(recorder.client)
        store = outbox_store("default")
        analytics = recorder.client.bind(user_id="user_1")
        for name in ("dead", "waiting"):
            analytics.capture(name, {"tag": "<b>"})
        fail(store, Failure(reason="refused", message="no such goal <b>", status=400))
        yield store
        store.close()
        for model in ("sessions.Session", "admin.LogEntry", "auth.User"):
            apps.get_model(model)._default_manager.all().delete()
    set_default_client(None)
    recorder.client.shutdown(0)
    urlpatterns.clear()
    clear_url_caches()


def fail(store: DjangoStore, failure: Failure) -> None:
    """Make a dead letter of the next record."""
    [one] = store.claim("analyse", max_records=1, max_bytes=1, timeout=20.0).claims
    store.settle("analyse", [Outcome(handles=[one.handle], failure=failure)], timeout=20.0)


def signed_in(*permissions: str) -> Any:
    """A browser of a member of the staff with these permissions; with all of them if none is named."""
    users: Any = get_user_model().objects
    user = users.create_user("staff", is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = browser()
    client.force_login(user)
    return client


def test_the_lists_show_records_and_reasons(store: DjangoStore) -> None:
    client = signed_in()
    waiting = client.get("/admin/sessionsight_outbox/queuedrecord/").content.decode()
    dead = client.get("/admin/sessionsight_outbox/deadletter/").content.decode()
    assert "Event waiting" in waiting
    assert "Event dead" in dead
    assert "no such goal &lt;b&gt;" in dead
    assert "refused" in dead


def test_a_payload_is_shown_and_cannot_be_changed(store: DjangoStore) -> None:
    client = signed_in()
    [letter] = store.find(DeadLetterQuery())
    page = client.get(f"/admin/sessionsight_outbox/deadletter/{letter.id}/change/").content.decode()
    assert "&quot;tag&quot;: &quot;&lt;b&gt;&quot;" in page
    assert "user_1" in page
    assert 'name="message"' not in page
    assert client.post(f"/admin/sessionsight_outbox/deadletter/{letter.id}/change/", {"lane": "x"}).status_code == 403
    assert client.get("/admin/sessionsight_outbox/deadletter/add/").status_code == 403
    pending = QueuedRecord.objects.get()
    assert client.get(f"/admin/sessionsight_outbox/queuedrecord/{pending.pk}/delete/").status_code == 403


def test_a_record_that_cannot_be_read_is_shown_as_such(store: DjangoStore) -> None:
    DeadLetter.objects.update(body=b"\xc1")
    client = signed_in()
    [letter] = store.find(DeadLetterQuery())
    assert client.get("/admin/sessionsight_outbox/deadletter/").status_code == 200
    page = client.get(f"/admin/sessionsight_outbox/deadletter/{letter.id}/change/").content.decode()
    assert "<pre>[\n  {},\n  null\n]</pre>" in page


def act(client: Any, store: DjangoStore, action: str) -> None:
    [letter] = store.find(DeadLetterQuery())
    data = {"action": action, "_selected_action": [letter.id], "post": "yes"}
    client.post("/admin/sessionsight_outbox/deadletter/", data)


def test_a_dead_letter_is_retried(store: DjangoStore) -> None:
    act(signed_in(), store, "retry")
    assert store.counts("analyse") == {"captured": 2, "pending": 2, "dead": 0}


def test_dead_letters_are_deleted_and_counted(store: DjangoStore) -> None:
    client = signed_in()
    act(client, store, "delete_selected")
    assert store.counts("analyse") == {"captured": 2, "pending": 1, "dead": 0, "dead_letter_dropped": 1}
    fail(store, Failure(reason="refused", message=""))
    [letter] = store.find(DeadLetterQuery())
    client.post(f"/admin/sessionsight_outbox/deadletter/{letter.id}/delete/", {"post": "yes"})
    assert store.counts("analyse") == {"captured": 2, "pending": 0, "dead": 0, "dead_letter_dropped": 2}


def test_who_may_only_look_cannot_retry_or_delete(store: DjangoStore) -> None:
    client = signed_in("view_deadletter")
    act(client, store, "retry")
    act(client, store, "delete_selected")
    assert store.counts("analyse") == {"captured": 2, "pending": 1, "dead": 1}


def test_a_permission_of_its_own_allows_to_retry(store: DjangoStore) -> None:
    act(signed_in("view_deadletter", "retry_deadletter"), store, "retry")
    assert store.counts("analyse")["pending"] == 2


def test_the_migration_is_that_of_the_models() -> None:
    output = io.StringIO()
    call_command("makemigrations", "sessionsight_outbox", "--check", "--dry-run", stdout=output)
    assert "No changes detected" in output.getvalue()
