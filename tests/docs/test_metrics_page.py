"""docs/metrics.md runs, and its alerts name metrics that exist."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import sessionsight
from sessionsight.capture.current import set_default_client
from sessionsight.metrics import prometheus_text
from tests.adapters.django_orders import recording
from tests.adapters.django_site import browser, site
from tests.support.pages import ROOT, block, blocks, run

PAGE = "docs/metrics.md"
TEXT = (ROOT / PAGE).read_text("utf-8")


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[sessionsight.Client]:
    monkeypatch.setenv("SAYTICS_SECRET_KEY", "...")
    client = sessionsight.configure(destinations={"saytics": {"secret_key": "..."}})
    assert isinstance(client, sessionsight.Client)
    yield client
    client.shutdown(0)
    set_default_client(None)


def names(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert [name for name, _ in blocks(PAGE)] == ["django", "flask", "fastapi", "otel"]


def test_the_django_view_answers_a_scrape() -> None:
    with site(recording(), run(block(PAGE, "django"))["metrics"]):
        response = browser().get("/metrics/")
    assert "sessionsight_records_captured_total" in response.content.decode()
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_the_flask_view_answers_a_scrape() -> None:
    response = run(block(PAGE, "flask"))["app"].test_client().get("/metrics")
    assert "sessionsight_records_captured_total" in names(response.get_data(as_text=True))
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_fastapi_endpoint_answers_a_scrape() -> None:
    transport = httpx.ASGITransport(app=run(block(PAGE, "fastapi"))["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as scraper:
        response = await scraper.get("/metrics")
    assert "sessionsight_records_captured_total" in names(response.text)
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_the_page_lists_the_metrics_and_their_labels(client: sessionsight.Client) -> None:
    rows = re.findall(r"^\| `(sessionsight_\w+)` \| (\w+) \| ([^|]*) \|", TEXT, re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    client.for_request("ss_sid=a b").context  # noqa: B018  # counts an invalid id
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(prometheus_text(client)):
        for sample in family.samples:
            found[sample.name] = family.type, set(sample.labels)
    assert listed == found


def test_the_alerts_use_metrics_and_labels_that_exist(client: sessionsight.Client) -> None:
    [alerts] = re.findall(r"<!-- test: alerts -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    rules: list[dict[str, Any]] = yaml.safe_load(alerts)["groups"][0]["rules"]
    text = prometheus_text(client)
    for rule in rules:
        used = set(re.findall(r"sessionsight_\w+", rule["expr"]))
        assert used
        assert used <= names(text), rule
        for label, pattern in re.findall(r'(\w+)=~?"([^"]+)"', rule["expr"]):
            for value in pattern.split("|"):
                assert f'{label}="{value}"' in text, rule


def test_the_opentelemetry_example_collects_the_listed_metrics(client: sessionsight.Client) -> None:
    example = run(block(PAGE, "otel"))
    data = example["reader"].get_metrics_data()
    [scope] = data.resource_metrics[0].scope_metrics
    section = TEXT.partition("The names have dots")[2]
    assert {metric.name for metric in scope.metrics} <= set(re.findall(r"`(sessionsight\.[\w.]+)`", section))
