"""The code of the guides runs, and links lead to headings that exist."""

from __future__ import annotations

import logging
import re
import threading
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import sessionsight
from tests.support.pages import ROOT, block, blocks, run

PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_headings_that_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", text):
        linked = ((ROOT / page).parent / target).resolve().relative_to(ROOT) if target else page
        assert anchor in anchors(str(linked)), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_each_python_block_is_valid(page: str) -> None:
    for _, code in blocks(page):
        compile(code, page, "exec")


def test_the_pages_on_delivery_and_troubleshooting_read_the_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    sessionsight.configure(destinations={"signal": {"api_key": "...", "project_id": "..."}}, flush_timeout=0.1)
    client = sessionsight.get_client()
    assert isinstance(client, sessionsight.Client)
    client.analytics.capture("order_processed")
    run(block("docs/delivery.md", "ledger"), {"client": client})
    run(block("docs/troubleshooting.md", "ledger"))
    assert "no_identity" in capsys.readouterr().out


def test_the_page_on_troubleshooting_configures_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    monkeypatch.setattr(logging, "basicConfig", lambda *, level: levels.append(level))
    run(block("docs/troubleshooting.md", "log"))
    assert levels == [logging.INFO]


def test_the_calls_on_the_page_on_migrating_are_captured() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    for _, code in blocks("docs/migrating.md"):
        run(code, namespace)
    stats = namespace["client"].stats()
    assert stats.rejected == 0
    assert {name: (lane.captured, lane.dropped) for name, lane in stats.lanes.items()} == {
        "sessionsight": (4, {}),
        "signal": (10, {}),
    }


def test_the_view_on_the_first_page_captures() -> None:
    pay = run(block("docs/index.md", "capture"))["pay"]
    client = sessionsight.configure(
        destinations={
            "sessionsight": {"secret_api_key": "...", "property_id": "..."},
            "signal": {"api_key": "...", "project_id": "..."},
        }
    )
    pay(SimpleNamespace(analytics=client.for_request("ss_sid=0b0e1f9c")))
    assert {name: (lane.captured, lane.dropped) for name, lane in client.stats().lanes.items()} == {
        "sessionsight": (1, {}),
        "signal": (2, {}),
    }


def test_the_files_on_the_page_on_architecture_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / "docs/architecture.md").read_text("utf-8"))
    assert len(named) > 20
    for path in named:
        assert (ROOT / "core/sessionsight" / path).exists() or (ROOT / path).exists(), path


def test_the_page_on_privacy_drops_what_a_visitor_has_refused() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    for _, code in blocks("docs/privacy.md"):
        run(code, namespace)
    assert namespace["context"].opted_out


def test_the_adapter_on_its_page_captures_and_knows_the_visitor() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    for _, code in blocks("docs/adapters.md"):
        run(code, namespace)
    client = sessionsight.Client(
        sessionsight.Settings.from_mapping({"destinations": {"analyse": {"public_key": "..."}}, "pageviews": True})
    )

    seen: list[sessionsight.TrackingContext] = []

    def log_message(handler: Any, *arguments: object) -> None:
        seen.append(handler.analytics.context)

    shop = type("QuietShop", (namespace["Shop"],), {"client": client, "log_message": log_message})
    with ThreadingHTTPServer(("127.0.0.1", 0), shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/shop%20one?utm_source=mail&token=t"
        answer = httpx.get(url, headers={"Cookie": "ss_vid=visitor-1"}, trust_env=False)
        server.shutdown()
        thread.join()
    assert answer.text == "<h1>Shop</h1>"
    assert (client.stats().lanes["analyse"].captured, client.stats().lanes["analyse"].dropped) == (3, {})
    assert seen[0].sessionsight.visitor_id == "visitor-1"
    assert (seen[0].page.path, seen[0].page.url) == ("/shop%20one", f"{url.partition('&')[0]}")
    for one in (client, namespace["Shop"].client):
        one.shutdown(0)
