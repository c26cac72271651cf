"""The health page shows the durable spool of an app."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from sessionsight import ConfigurationError
from sessionsight.inspector.options import Options
from sessionsight.inspector.spool import SpoolReader
from tests.core.delivery.kit import event, goal
from tests.core.delivery.spools import LANE, claim, enter, letter, query, redis_spool, sqlite_spool
from tests.core.inspector.conftest import StartInspector
from tests.core.inspector.test_pages import text
from tests.support.redis_server import run_redis
from tests.support.server import PATIENCE


def health_of(start_inspector: StartInspector, spool: str) -> httpx.Response:
    running = start_inspector(Options(port=0, spool=spool))
    return httpx.get(f"{running.url}/health", trust_env=False, timeout=PATIENCE)


def test_each_lane_has_its_figures(tmp_path: Path, start_inspector: StartInspector) -> None:
    path = tmp_path / "spool.db"
    spool = sqlite_spool(path)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), goal("signups"), event("b"), event("c")])
    dead, delivered, *_ = claim(queue, 3)
    queue.dead_letter([letter(dead, "unknown")])
    queue.ack([delivered])
    queue.write_pending()
    enter(spool, [event("d"), event("e"), event("f")])

    page = text(health_of(start_inspector, str(path)))
    assert f"Spool {path} Oldest pending" in page
    assert "Owners 1 In use" in page
    assert "Lane Ready Claimed Delivered Dead Dropped vendor 3 2 1 1 0" in page
    queue.close()
    spool.close()


def test_drops_have_their_reasons_and_a_wrong_ledger_is_marked(tmp_path: Path, start_inspector: StartInspector) -> None:
    path = tmp_path / "spool.db"
    spool = sqlite_spool(path)
    enter(spool, [goal("signups", key="order:1"), goal("signups", key="order:1")])
    spool.close()
    query(path, "UPDATE counts SET number = 3 WHERE counter = 'captured'")

    page = text(health_of(start_inspector, f"sqlite:///{path}"))
    assert "vendor does not add up 1 0 0 0 1 1 duplicate" in page


def test_no_secret_of_the_url_is_shown_also_when_the_server_cannot_be_reached(
    tmp_path: Path, start_inspector: StartInspector
) -> None:
    with run_redis(tmp_path, requirepass="pw-of-shop") as server:
        url = server.url.replace("redis://", "redis://:pw-of-shop@")
        spool = redis_spool(url)
        enter(spool, [event("a"), event("b")])
        running = start_inspector(Options(port=0, spool=url))
        page = httpx.get(f"{running.url}/health", trust_env=False, timeout=PATIENCE)
        assert f"Spool {server.url} Oldest pending" in text(page)
        assert "vendor 2 0 0 0 0" in text(page)
        spool.close()
    failed = health_of(start_inspector, url)
    assert f"Spool {server.url} It cannot be read: Error 111 connecting to 127.0.0.1" in text(failed)
    assert "Faults" in text(failed)
    assert "pw-of-shop" not in page.text + failed.text


def test_a_file_may_be_created_later(tmp_path: Path, start_inspector: StartInspector) -> None:
    page = text(health_of(start_inspector, str(tmp_path / "spool.db")))
    assert "It cannot be read: the file does not exist; it is created when the first record is captured" in page
    assert list(tmp_path.iterdir()) == []


def test_an_empty_spool_has_no_lanes(tmp_path: Path, start_inspector: StartInspector) -> None:
    spool = sqlite_spool(tmp_path / "spool.db")
    spool.store.ready()
    spool.close()
    page = text(health_of(start_inspector, str(tmp_path / "spool.db")))
    assert "Oldest pending none" in page
    assert "It has no record yet." in page


def test_without_a_spool_there_is_no_section(http: httpx.Client) -> None:
    assert 'id="spool"' not in http.get("/health").text


def test_the_page_does_not_wait_for_a_server_that_does_not_answer(start_inspector: StartInspector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reader = SpoolReader(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", wait=0.0)
        first = reader.read()
        assert (first.waits, first.at, first.stats, first.error) == (True, None, None, None)
        assert reader.read() == first
        page = text(health_of(start_inspector, f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        assert "It takes long to answer. " in page
        silent.accept()[0].close()


def test_a_reading_is_used_for_a_second(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    reader = SpoolReader(str(path))
    first = reader.read()
    assert first.stats is not None
    assert reader.read() is not first
    assert reader.read().at == first.at
    spool.close()


def test_an_invalid_url_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="spool must be a URL such as") as raised:
        SpoolReader("redis://:pw-of-shop@cache.example.com/0?unknown=1")
    assert "pw-of-shop" not in str(raised.value)


def test_any_exception_is_shown(tmp_path: Path) -> None:
    assert SpoolReader(str(tmp_path / "a\0b")).read().error is not None
