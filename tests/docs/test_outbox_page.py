"""docs/outbox.md runs."""

from contextlib import suppress
from pathlib import Path

from tests.adapters.django_site import browser, site

# isort: split
from django.db import connections

from tests.adapters.outbox_databases import outbox_database
from tests.adapters.test_django_outbox import delivered, outbox_recorder
from tests.support.pages import block, run

PAGE = "docs/outbox.md"


def test_the_view_on_the_page_leaves_an_order_and_its_record_or_neither(tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "default") as alias:
        connections[alias].cursor().execute("CREATE TABLE orders (name TEXT PRIMARY KEY)")
        recorder = outbox_recorder()
        with site(recorder, run(block(PAGE, "outbox"))["buy"]), suppress(Exception):
            browser().get("/buy/?name=ord_1")
            browser().get("/buy/?name=ord_1")
        assert delivered(recorder) == ["order_placed"]
        recorder.client.shutdown(0)


def test_the_view_that_demands_its_transaction_has_one(tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "default"):
        recorder = outbox_recorder(strict=True)
        with site(recorder, run(block(PAGE, "refund"))["refund"]):
            assert browser().get("/refund/").status_code == 200
        assert delivered(recorder) == ["order_refunded"]
        recorder.client.shutdown(0)
