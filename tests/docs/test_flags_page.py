"""The code of docs/flags.md runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

import sessionsight
from sessionsight.testing import LocalInspector, Recorder
from tests.conformance import django_project  # noqa: F401  # sets Django up
from tests.support.pages import block, blocks, run

PAGE = "docs/flags.md"


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert {name for name, _ in blocks(PAGE)} == {"django", "fastapi", "target", "outside", "testing"}


def test_the_views_follow_the_flags_of_a_test(analytics: Recorder) -> None:
    client = sessionsight.configure(destinations={}, disabled=True)
    checkout = run(block(PAGE, "django"))["checkout"]
    browser = SimpleNamespace(get=lambda path: checkout(SimpleNamespace(analytics=client.for_request("ss_vid=v1"))))
    assert browser.get("/checkout").content == b"the old checkout, in blue"
    run(block(PAGE, "testing"))["test_the_new_checkout"](browser, analytics)


def test_the_async_view_asks_the_inspector(
    sessionsight_inspector: LocalInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONSIGHT_SECRET_API_KEY", "...")
    monkeypatch.setenv("SESSIONSIGHT_PROPERTY_ID", "...")
    browser = TestClient(run(block(PAGE, "fastapi"))["app"])
    answers = [browser.get("/checkout").json()]
    sessionsight_inspector.flags["new-checkout"] = True
    answers.append(browser.get("/checkout").json())
    assert answers == ["the old checkout", "the new checkout"]


def test_attributes_and_contexts_are_given(sessionsight_inspector: LocalInspector) -> None:
    client = sessionsight.configure(destinations={"sessionsight": {"secret_api_key": "...", "property_id": "..."}})
    namespace: dict[str, Any] = {
        "analytics": client.for_request("ss_vid=v1"),
        "context": sessionsight.TrackingContext(),
    }
    run(block(PAGE, "target"), namespace)
    run(block(PAGE, "outside"), namespace)
    asked = [sessionsight_inspector._store.request(number) for number in (1, 2)]
    assert [b'"plan":"pro"' in one.body for one in asked if one is not None] == [True, False]
    assert asked[1] is not None
    assert b'"userId":"user_1"' in asked[1].body
