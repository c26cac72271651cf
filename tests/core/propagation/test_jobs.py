"""Jobs take the context of their publisher along, and run also where analytics fail."""

from __future__ import annotations

import importlib
from typing import NoReturn

import pytest

import sessionsight
from sessionsight.capture.current import set_default_source
from sessionsight.propagation._jobs import current_carrier, job
from tests.support.server import Server


@pytest.fixture
def client() -> sessionsight.Client:
    return sessionsight.configure(destinations={"analyse": {"public_key": "..."}})


def test_nothing_is_taken_along_without_a_client_or_a_visitor() -> None:
    assert current_carrier() is None
    sessionsight.configure(destinations=())
    assert current_carrier() is None


def test_the_user_who_has_signed_in_is_taken_along(client: sessionsight.Client) -> None:
    with client.scope() as analytics:
        analytics.identify("user-1")
        assert current_carrier() == {"ss_user_id": "user-1"}


def test_a_job_is_published_and_runs_without_analytics_if_its_client_cannot_be_created(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def source() -> NoReturn:
        raise sessionsight.ConfigurationError("SESSIONSIGHT: unknown setting")

    set_default_source(source, owner="settings.SESSIONSIGHT")
    assert current_carrier() is None
    with job(None):
        pass
    assert caplog.text.count("ConfigurationError: SESSIONSIGHT: unknown setting") == 2


def test_the_end_of_a_job_waits_for_delivery_if_it_must() -> None:
    with Server() as vendor:
        destinations = {"analyse": {"public_key": "...", "host": vendor.url}}
        client = sessionsight.configure(destinations=destinations, linger=60)
        with job(None, flush=True):
            sessionsight.current().capture("paid", user_id="user-1")
        assert client.stats().lanes["analyse"].delivered == 1

        sessionsight.configure(destinations=destinations, flush="inline")
        with job(None):
            sessionsight.current().capture("paid", user_id="user-1")
        assert len(vendor.requests) == 2


def test_the_context_ends_with_a_job_that_fails(client: sessionsight.Client) -> None:
    def fail() -> NoReturn:
        with job({"ss_user_id": "user-1"}):
            assert sessionsight.current().context.user_id == "user-1"
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()
    assert sessionsight.current().context.user_id is None


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        ("celery", "celery.Celery"),
        ("dramatiq", "dramatiq.Broker"),
        ("huey", "huey.Huey"),
        ("rq", "rq.Queue or rq.BaseWorker"),
    ],
)
@pytest.mark.parametrize("target", ["redis://127.0.0.1/0", str])
def test_connect_names_the_type_that_it_takes(runner: str, expected: str, target: object) -> None:
    connect = importlib.import_module(f"sessionsight.propagation.{runner}").connect
    with pytest.raises(
        sessionsight.ConfigurationError, match=rf"connect\(\) takes an object of the type {expected}, not "
    ):
        connect(target)
