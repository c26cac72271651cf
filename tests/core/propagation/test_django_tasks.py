"""Django's tasks: in which context a task runs, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
import pytest
from django.test import override_settings

import sessionsight
from sessionsight import TrackingContext
from sessionsight.capture.current import set_default_client
from sessionsight.propagation.django_tasks import connect, disconnect
from tests.core.box import Recorder
from tests.core.propagation.contexts import carrier_of, context_of, reports
from tests.core.propagation.django_shop import fail, see, see_async, send
from tests.support.server import PATIENCE, Server

ROOT = Path(__file__).parents[3]
CONTEXT, CARRIER = context_of("s-1"), carrier_of("s-1")
PACKAGE = type(see).__module__.rpartition(".")[0]
"""Of the tasks: Django's own where it has them, otherwise the backport."""


@pytest.fixture
def shop(recorder: Recorder) -> Iterator[Recorder]:
    """The client of an app whose tasks are connected and run at once."""
    set_default_client(recorder.client)
    connect()
    with override_settings(TASKS={"default": {"BACKEND": f"{PACKAGE}.backends.immediate.ImmediateBackend"}}):
        yield recorder
    disconnect()


def carriers(recorder: Recorder, token: str) -> list[dict[str, str]]:
    """The contexts that the tasks have reported."""
    return [event["carrier"] for event in reports(recorder, token)]


def test_a_task_has_the_context_of_the_code_that_enqueues_it(shop: Recorder) -> None:
    with sessionsight.scope(CONTEXT) as analytics:
        result = see.enqueue("seen", option=1)
        see_async.enqueue("seen")
        fail.enqueue("seen")
        assert sessionsight.current() is analytics
    assert carriers(shop, "seen") == [CARRIER] * 3
    assert result.return_value == ["option"]


async def test_a_task_that_is_enqueued_on_an_event_loop_has_the_context(shop: Recorder) -> None:
    async with sessionsight.scope(CONTEXT):
        await see.aenqueue("seen")
        await see_async.aenqueue("seen")
    assert carriers(shop, "seen") == [CARRIER] * 2


def test_a_task_without_a_context_has_an_empty_one(shop: Recorder) -> None:
    see.enqueue("seen")
    assert carriers(shop, "seen") == [{}]


def test_a_refusal_of_consent_reaches_the_task(shop: Recorder) -> None:
    with sessionsight.scope(TrackingContext(opted_out=True)):
        see.enqueue("seen")
    assert carriers(shop, "seen") == []
    assert sum(shop.dropped().values()) == 1


def test_a_task_passes_on_its_context_and_the_user_who_has_signed_in(shop: Recorder) -> None:
    with sessionsight.scope(CONTEXT):
        send.enqueue("seen")
        send.enqueue("signed in", user_id="user-2")
    assert carriers(shop, "seen") == [CARRIER]
    assert carriers(shop, "signed in") == [CARRIER | {"ss_user_id": "user-2"}]


async def test_a_task_that_is_called_has_the_context_of_its_caller(shop: Recorder) -> None:
    async with sessionsight.scope(CONTEXT):
        await see_async.acall("seen")  # type: ignore[unused-coroutine]  # as django-stubs have it
        await see.acall("seen")
    see.call("alone")
    assert carriers(shop, "seen") == [CARRIER] * 2
    assert carriers(shop, "alone") == [{}]


def test_tasks_that_are_not_connected_are_left_alone(shop: Recorder) -> None:
    connect()
    dummy = {"default": {"BACKEND": f"{PACKAGE}.backends.dummy.DummyBackend"}}
    with override_settings(TASKS=dummy), sessionsight.scope(CONTEXT):
        connected = see.enqueue("seen")
        disconnect()
        disconnect()
        left_alone = see.enqueue("seen")
    assert connected.kwargs == {"_sessionsight": CARRIER}
    assert left_alone.kwargs == {}


@pytest.mark.processes
def test_a_worker_delivers_before_it_exits(tmp_path: Path) -> None:
    with Server() as vendor:
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.core.propagation.django_shop",
            "SHOP_DATABASE": str(tmp_path / "shop.db"),
            "SHOP_VENDOR": vendor.url,
        }
        worker = ("django", "db_worker", "--batch", "--interval", "0")
        for arguments in (("tests.core.propagation.django_sender",), worker):
            subprocess.run(
                [sys.executable, "-W", "error", "-m", *arguments],
                cwd=ROOT,
                env=variables,
                check=True,
                timeout=3 * PATIENCE,
            )
        events = [event for request in vendor.requests for event in request.json["events"]]
    found: dict[str, list[Any]] = {event["event_name"]: [] for event in events}
    for event in events:
        found[event["event_name"]].append(event["properties"]["carrier"])
    assert found == {"seen": [CARRIER] * 4, "alone": [{}]}
    assert len(Counter(event["properties"]["pid"] for event in events)) == 1
