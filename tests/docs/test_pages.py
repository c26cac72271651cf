"""README and the pages run: each code block is executed as it stands."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import sessionsight
from scripts import settings_page
from sessionsight.capture.current import default_client
from tests.support.pages import ROOT, block, blocks, run


def keys_in_the_readme() -> dict[str, str]:
    """Return the environment variables that the README sets."""
    return dict.fromkeys(re.findall(r"(\w+)=\.\.\.", (ROOT / "README.md").read_text("utf-8")), "...")


def test_the_readmes_flask_app_counts_a_sign_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in keys_in_the_readme().items():
        monkeypatch.setenv(variable, value)
    example = run(block("README.md", "flask"))
    response = example["app"].test_client().post("/signup")
    assert response.get_data(as_text=True) == "Welcome"
    stats = example["app"].extensions["sessionsight"].stats()
    assert stats.lanes["signal"].captured == 1
    assert stats.lanes["sessionsight"].dropped == {"no_session": 1}


async def test_the_readmes_fastapi_app_captures_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYTICS_SECRET_KEY", "...")
    monkeypatch.setenv("ANALYSE_KEY", "...")
    example = run(block("README.md", "fastapi"))
    transport = httpx.ASGITransport(app=example["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as browser:
        response = await browser.post("/checkout")
    assert response.json() == "Thank you"
    client = default_client()
    assert isinstance(client, sessionsight.Client)
    assert {name: lane.captured for name, lane in client.stats().lanes.items()} == {"saytics": 1, "analyse": 1}


def test_the_readmes_django_settings_and_view_serve_a_request(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        block("README.md", "django") + 'ROOT_URLCONF = "urls"\nSECRET_KEY = "k"\nALLOWED_HOSTS = ["*"]\n', "utf-8"
    )
    (tmp_path / "views.py").write_text(block("README.md", "django-view"), "utf-8")
    (tmp_path / "urls.py").write_text(
        "from django.urls import path\nimport views\nurlpatterns = [path('pay', views.pay)]\n", "utf-8"
    )
    program = (
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "print(Client().get('/pay').content)\n"
        "from sessionsight.capture.current import default_client\n"
        "print({name: lane.captured for name, lane in default_client().stats().lanes.items()})\n"
        "default_client().shutdown(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={
            "DJANGO_SETTINGS_MODULE": "settings",
            "PATH": "",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            **keys_in_the_readme(),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "b'Thank you'", done.stderr
    assert lines[1] == "{'sessionsight': 1, 'signal': 1}"


def test_the_readmes_webhook_counts_a_goal_in_the_visitors_session() -> None:
    # The end of the webhook waits for a delivery that fails.
    destinations = {"sessionsight": {"secret_api_key": "...", "property_id": "..."}}
    client = sessionsight.configure(destinations=destinations, flush_timeout=0.1)
    visitor = client.for_request("ss_sid=0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11")
    metadata = visitor.context.to_carrier()
    names = {"sessionsight": sessionsight, "TrackingContext": sessionsight.TrackingContext, "metadata": metadata}
    run(block("README.md", "outside"), names)
    stats = client.stats().lanes["sessionsight"]
    assert stats.captured == 1
    assert stats.dropped == {}


def test_the_page_on_capturing_runs_from_top_to_bottom() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    for _, code in blocks("docs/capturing.md"):
        run(code, namespace)
    stats = namespace["client"].stats()
    assert stats.rejected == 0
    assert stats.lanes["sessionsight"].captured == 7
    assert "no_session" not in stats.lanes["sessionsight"].dropped


def test_the_page_on_delivery_shows_a_before_send_that_works() -> None:
    example = run(block("docs/delivery.md", "before-send"))
    example["client"].analytics.capture("debug_something", user_id="user_1")
    example["client"].flush(5)
    assert example["client"].stats().lanes["signal"].dropped == {"before_send": 1}


def test_the_page_on_delivery_shows_how_to_look_at_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    run(block("docs/delivery.md", "diagnosis"))
    printed = capsys.readouterr().out
    assert "error    signal  api_key is not a key" in printed
    assert "not delivered within 0.1 s" in printed


def test_the_page_on_delivery_asks_for_the_status_of_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    settings = sessionsight.Settings.from_mapping({"destinations": {"saytics": {"secret_key": "..."}}})
    client = sessionsight.Client(settings)
    run(block("docs/delivery.md", "status"), {"client": client})
    client.shutdown(0)
    assert capsys.readouterr().out.startswith("saytics ")


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))])
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text("utf-8")):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_the_page_on_settings_matches_the_settings() -> None:
    page = settings_page.PAGE.read_text("utf-8")
    assert settings_page.render(page) == page, "run python scripts/settings_page.py"


def test_each_setting_must_be_on_the_page() -> None:
    page = settings_page.PAGE.read_text("utf-8").replace("<!-- settings: flush_timeout ", "<!-- settings: ")
    with pytest.raises(ValueError, match="flush_timeout"):
        settings_page.render(page)
