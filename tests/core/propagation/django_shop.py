"""A Django project whose tasks report under which context they run; its database and its vendor are in variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.apps import AppConfig

import sessionsight
from tests.core.propagation.contexts import report

try:
    from django.tasks import TaskContext, task
except ImportError:  # before Django 6.0
    from django_tasks import TaskContext, task  # type: ignore[assignment,no-redef]

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DATABASE", ":memory:")}}
INSTALLED_APPS = ["django_tasks_db", "sessionsight_django", "tests.core.propagation.django_shop.Shop"]
SECRET_KEY = "test"
SESSIONSIGHT = {
    "DESTINATIONS": {"analyse": {"public_key": "pk_live_1", "host": os.environ.get("SHOP_VENDOR")}},
    "LINGER": 60,
    "SHUTDOWN_TIMEOUT": 60,
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
USE_TZ = True


class Shop(AppConfig):
    """The app, which connects the tasks."""

    name = "tests.core.propagation"
    label = "shop"
    path = str(Path(__file__).parent)

    def ready(self) -> None:
        from sessionsight.propagation.django_tasks import connect

        connect()


@task
def see(token: str, **options: Any) -> list[str]:
    report(token)
    return list(options)


@task
async def see_async(token: str) -> None:
    report(token)


@task(takes_context=True)
def send(context: TaskContext[Any, Any], token: str, user_id: str | None = None) -> None:
    if user_id is not None:
        sessionsight.current().identify(user_id)
    see_async.enqueue(token)


@task
def fail(token: str) -> None:
    report(token)
    raise ValueError(token)
