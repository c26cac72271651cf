from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from sessionsight import Client, MissingDependencyError, Settings
from tests.core.box import Recorder
from tests.core.conftest import MakeRecorder

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SHOWN = "0af7651916cd43dd8448eb211c80319c"


class FixedIds(RandomIdGenerator):
    """Ids of spans; the trace's is known to the test."""

    def generate_trace_id(self) -> int:
        return TRACE_ID


@pytest.fixture
def provider() -> Iterator[Any]:
    provider = TracerProvider(id_generator=FixedIds(), shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def traced(make_recorder: MakeRecorder) -> Recorder:
    return make_recorder(strict=True, trace_id=True)


def test_an_event_has_the_trace_of_the_call(traced: Recorder, provider: Any) -> None:
    with provider.get_tracer("shop").start_as_current_span("POST /orders"), traced.client.scope() as analytics:
        analytics.tag(plan="pro")
        analytics.capture("order_processed", {"amount": 5})
        analytics.capture("order_seen")
    assert traced.events() == {
        "order_processed": {"trace_id": SHOWN, "plan": "pro", "amount": 5},
        "order_seen": {"trace_id": SHOWN, "plan": "pro"},
    }


def test_a_trace_id_of_the_call_takes_precedence(traced: Recorder, provider: Any) -> None:
    with provider.get_tracer("shop").start_as_current_span("POST /orders"):
        traced.client.analytics.capture("order_processed", {"trace_id": "mine"})
    assert traced.events() == {"order_processed": {"trace_id": "mine"}}


def test_people_and_goals_have_none(traced: Recorder, provider: Any) -> None:
    with provider.get_tracer("shop").start_as_current_span("POST /orders"):
        traced.client.analytics.identify("ada", {"plan": "pro"})
        traced.client.analytics.goals.increment("orders", session_id="s-1", metadata={"plan": "pro"})
    assert {entry.record.properties for entry in traced.entries()} == {b'{"plan":"pro"}'}


def test_without_a_recording_span_there_is_none(traced: Recorder) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    traced.client.analytics.capture("outside")
    with provider.get_tracer("shop").start_as_current_span("POST /orders"):
        traced.client.analytics.capture("sampled_out")
    remote = trace.NonRecordingSpan(trace.SpanContext(TRACE_ID, 1, is_remote=True))
    with trace.use_span(remote):
        traced.client.analytics.capture("callers_trace_only")
    assert list(traced.events().values()) == [{}, {}, {}]


def test_by_default_there_is_none_and_encoding_is_unchanged(recorder: Recorder, provider: Any) -> None:
    with provider.get_tracer("shop").start_as_current_span("POST /orders"):
        recorder.client.analytics.capture("order_processed")
    assert recorder.events() == {"order_processed": {}}
    assert recorder.client.encode_event == recorder.client.encoder.__call__


def test_without_opentelemetry_the_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(MissingDependencyError, match="needs opentelemetry-api"):
        Client(Settings(trace_id=True))
    assert Client(Settings(trace_id=True, disabled=True)).shutdown()
