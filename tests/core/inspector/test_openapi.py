"""The API does what its OpenAPI document says, whatever is asked."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import Case

from sessionsight.inspector.openapi import document
from sessionsight.inspector.server import RunningInspector
from tests.core.inspector.calls import SESSION
from tests.core.inspector.values import goal, received, record
from tests.support.examples import examples

# A copy, for schemathesis may rewrite what it is given. The stream does not end; the API's own tests read it.
schema = schemathesis.openapi.from_dict(deepcopy(document())).exclude(path="/api/stream")


@pytest.fixture
def filled(inspector: RunningInspector) -> RunningInspector:
    items = [record(session_id=SESSION, user_id="u", properties={"a": 1}), goal(49, session_id=SESSION)]
    inspector.store.add(received(body=b"x"), items)
    return inspector


@schema.parametrize()
@hypothesis.settings(max_examples=examples(0.2), suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_each_operation_keeps_its_word(case: Case[Any], filled: RunningInspector) -> None:
    if case.path == "/api/wait":
        with suppress(TypeError, ValueError):
            if float(case.query.get("timeout", 10)) > 0.01:
                case.query["timeout"] = "0.01"  # a minute is too long for a test
    case.call_and_validate(base_url=filled.url)


def test_the_document_is_served_as_it_is(http: httpx.Client) -> None:
    assert http.get("/api/openapi.json").json() == document()
