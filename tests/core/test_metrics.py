"""The ledger as Prometheus' text, read by its own parser, and as instruments that OpenTelemetry's SDK collects."""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Sum
from prometheus_client.parser import text_string_to_metric_families

from sessionsight import Client, MissingDependencyError, Settings
from sessionsight.capture.records import DropReason
from sessionsight.destinations import Saytics
from sessionsight.metrics import connect_opentelemetry, prometheus_text
from tests.core.box import Box, BoxDestination, Recorder
from tests.support.server import PATIENCE, Server, reply

MakeRecorder = Callable[..., Recorder]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
HOSTILE = 'eu\\west "1"\nbox'


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def samples(client: Client) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(prometheus_text(client))
        for sample in family.samples
    }


def collected(reader: InMemoryMetricReader) -> Samples:
    data = reader.get_metrics_data()
    found: Samples = {}
    if data is None:
        return found
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            assert scope.scope.name == "sessionsight"
            for metric in scope.metrics:
                assert isinstance(metric.data, Gauge | Sum)
                for point in metric.data.data_points:
                    labels: Any = dict(point.attributes or {})
                    found[metric.name, frozenset(labels.items())] = point.value
    return found


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def busy(recorder: Recorder) -> Client:
    """A client that has delivered one record, dropped one, and refused a call."""
    client = recorder.client
    client.analytics.capture("seen", user_id="user_1")
    client.for_request({"Cookie": "ss_sid=a b", "Sec-GPC": "1"}).capture("seen")
    client.analytics.capture("")
    assert client.flush(PATIENCE)
    return client


def test_the_text_has_every_counter_of_the_ledger(make_recorder: MakeRecorder) -> None:
    client = busy(make_recorder(strict=False, consent="gpc"))
    found = samples(client)
    box = labels(destination="box")
    assert found["sessionsight_records_captured_total", box] == 2
    assert found["sessionsight_records_delivered_total", box] == 1
    assert found["sessionsight_records_dropped_total", labels(destination="box", reason="consent")] == 1
    assert found["sessionsight_records_pending", box] == 0
    assert found["sessionsight_dead_letters", box] == 0
    assert found["sessionsight_destination_state", labels(destination="box", state="closed")] == 1
    assert found["sessionsight_destination_state", labels(destination="box", state="paused")] == 0
    assert found["sessionsight_calls_rejected_total", labels()] == 1
    assert found["sessionsight_ids_invalid_total", labels(source="ss_sid")] == 1
    assert found["sessionsight_ids_mismatched_total", labels()] == 0


def test_each_reason_has_a_series_before_it_occurs(recorder: Recorder) -> None:
    reasons = {dict(label)["reason"] for name, label in samples(recorder.client) if "dropped" in name}
    assert reasons == {str(reason) for reason in DropReason}


def test_metrics_have_types_and_descriptions(recorder: Recorder) -> None:
    families = list(text_string_to_metric_families(prometheus_text(recorder.client)))
    assert {family.name: family.type for family in families} == {
        "sessionsight_records_captured": "counter",
        "sessionsight_records_delivered": "counter",
        "sessionsight_records_dropped": "counter",
        "sessionsight_records_pending": "gauge",
        "sessionsight_dead_letters": "gauge",
        "sessionsight_destination_state": "gauge",
        "sessionsight_calls_rejected": "counter",
        "sessionsight_ids_invalid": "counter",
        "sessionsight_ids_mismatched": "counter",
    }
    assert all(family.documentation.endswith(".") for family in families)


def test_a_name_with_any_character_is_escaped() -> None:
    client = Client(Settings(destinations=(BoxDestination(HOSTILE),)), make_transport=lambda destination: Box())
    assert samples(client)["sessionsight_records_pending", labels(destination=HOSTILE)] == 0


def test_dead_letters_and_a_paused_lane_are_shown(server: Server) -> None:
    server.will(reply(400), reply(401))
    client = Client(Settings(destinations=(Saytics(secret_key="k", api_url=server.url),), trust_env=False, linger=0.0))
    client.analytics.capture("seen", user_id="user_1")
    assert client.flush(PATIENCE)
    server.answer = reply(401)
    client.analytics.capture("seen", user_id="user_1")
    server.wait_for(2)
    assert not client.flush(0.05)
    found = samples(client)
    client.shutdown(0)
    lane = labels(destination="saytics")
    assert found["sessionsight_dead_letters", lane] == 1
    assert found["sessionsight_records_pending", lane] == 1


def test_opentelemetry_collects_the_same_numbers(make_recorder: MakeRecorder) -> None:
    client = busy(make_recorder(strict=False, consent="gpc"))
    reader = InMemoryMetricReader()
    connect_opentelemetry(client, MeterProvider(metric_readers=[reader]))
    expected = {
        (name.removesuffix("_total").replace("_", ".").replace("dead.letters", "dead_letters"), label): value
        for (name, label), value in samples(client).items()
    }
    assert collected(reader) == expected
    client.analytics.capture("seen", user_id="user_1")
    assert client.flush(PATIENCE)
    assert collected(reader)["sessionsight.records.delivered", labels(destination="box")] == 2


def test_a_client_that_is_gone_is_not_observed() -> None:
    client = Client(Settings(destinations=()))
    reader = InMemoryMetricReader()
    connect_opentelemetry(client, MeterProvider(metric_readers=[reader]))
    assert collected(reader)
    del client
    gc.collect()
    assert collected(reader) == {}


def test_the_global_provider_is_the_default(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr("opentelemetry.metrics._internal.get_meter_provider", lambda: provider)
    connect_opentelemetry(recorder.client)
    assert collected(reader)


def test_without_opentelemetry_the_error_names_the_extra(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with pytest.raises(MissingDependencyError, match=r"sessionsight\[otel\]"):
        connect_opentelemetry(recorder.client)
