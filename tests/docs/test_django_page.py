"""docs/django.md runs."""

import subprocess
import sys
from pathlib import Path

from sessionsight_django import clients
from tests.adapters.django_orders import recording, refunded, two_databases
from tests.adapters.django_site import browser, site
from tests.support.pages import block, run

PAGE = "docs/django.md"
PROGRAM = """
import django; django.setup()
import signals
from django.apps import apps
from django.core import checks
from django.test import Client
from sessionsight.capture.current import default_client

client = Client()
client.cookies["ss_vid"] = "visitor-1"
print(client.get("/page").content.decode())
print(client.get("/page").headers["Vary"], client.get("/page").headers["Cache-Control"])
print(checks.run_checks(tags=["sessionsight"]))
signals.ShopConfig("shop", signals).ready()
default_client().shutdown(0)
"""


def test_the_page_on_django_runs(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        block(PAGE, "settings") + 'ROOT_URLCONF = "urls"\nSECRET_KEY = "k"\nALLOWED_HOSTS = ["*"]\n', "utf-8"
    )
    (tmp_path / "views.py").write_text(block(PAGE, "page"), "utf-8")
    (tmp_path / "signals.py").write_text(block(PAGE, "signals"), "utf-8")
    (tmp_path / "urls.py").write_text(
        "from django.urls import path\nimport views\nurlpatterns = [path('page', views.page)]\n", "utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"DJANGO_SETTINGS_MODULE": "settings", "PATH": "", "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        '<script type="application/json" id="sessionsight-config">{"sessionsight":{"visitorId":"visitor-1"}}</script>',
        "Cookie private",
        "[]",
    ], done.stderr
    assert done.returncode == 0, done.stderr


def test_a_view_with_an_annotated_request_captures() -> None:
    recorder = recording()
    with site(recorder, run(block(PAGE, "types"))["sign_up"]):
        browser().get("/sign_up/")
        assert recorder.names() == ["signed_up"]
    recorder.client.shutdown()


def test_the_job_on_the_page_sends_what_its_transaction_keeps(tmp_path: Path) -> None:
    charge = run(block(PAGE, "job"))["charge"]
    recorder = recording()
    with two_databases(tmp_path), site(recorder):
        clients.client()
        charge("ord_1", {"ss_vid": "visitor-1"})
        with refunded():
            charge("ord_2", {})
        assert [(event["anonymous_id"], event["person_id"]) for event in recorder.events()] == [("visitor-1", "user_1")]
    recorder.client.shutdown()


def test_the_page_tells_what_a_rollback_leaves(tmp_path: Path) -> None:
    pay = run(block(PAGE, "transactions"))["pay"]
    recorder = recording()
    with two_databases(tmp_path), site(recorder, pay):
        browser().get("/pay/")
        assert recorder.names() == ["payment_tried", "order_processed"]
        with refunded():
            browser().get("/pay/")
        assert recorder.names()[2:] == ["payment_tried"]
    recorder.client.shutdown()
