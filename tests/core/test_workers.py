"""Detection of several workers, which do not share keys, and the warning at the first keyed record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sessionsight import Client, Settings, workers
from tests.core.delivery.kit import batches
from tests.core.delivery.processes import run
from tests.support.server import Server

WARNING = "key= counts within this process only"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove everything from the tests' own process that looks like a worker."""
    for name in ("gunicorn.arbiter", "uwsgi"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ("python app.py", {}, False),
        ("gunicorn --workers 4 shop.wsgi", {}, True),
        ("gunicorn -w4 shop.wsgi", {}, True),
        ("hypercorn -w 4 shop.asgi:app", {}, True),
        ("granian --workers=2 shop.asgi:app", {}, True),
        ("uvicorn --workers 1 shop.asgi:app", {}, False),
        ("gunicorn shop.wsgi", {"WEB_CONCURRENCY": "3"}, True),
        ("gunicorn --workers 1 shop.wsgi", {"WEB_CONCURRENCY": "3"}, False),
        ("gunicorn shop.wsgi", {"GUNICORN_CMD_ARGS": "--bind :80 --workers=3"}, True),
        ("gunicorn shop.wsgi", {"WEB_CONCURRENCY": "auto"}, False),
        ("python app.py --web 4", {}, False),
    ],
)
def test_the_number_of_workers_is_read_from_the_command_line_or_environment(
    argv: str, environ: dict[str, str], expected: bool
) -> None:
    assert workers.may_have_peers(argv.split(), environ) is expected


@pytest.mark.parametrize(("number", "expected"), [(1, False), (4, True)])
def test_the_number_of_uwsgi_processes_is_read_from_its_module(
    number: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(numproc=number))

    assert workers.may_have_peers(["uwsgi"], {}) is expected


def test_a_gunicorn_worker_configured_by_a_file_may_have_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", SimpleNamespace())

    assert workers.may_have_peers(["gunicorn", "--config", "conf.py", "shop.wsgi"], {})


@pytest.mark.parametrize("argv", ["manage.py runserver", "uvicorn --reload shop.asgi:app"])
def test_a_reloaded_development_server_has_one_worker(argv: str) -> None:
    assert not workers.may_have_peers(argv.split(), {})


@pytest.mark.processes
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_may_have_peers(method: str, server: Server, tmp_path: Path) -> None:
    script = f"""
from sessionsight.workers import may_have_peers
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with context.Pool(1) as pool:
        print(may_have_peers(), pool.apply(may_have_peers))
"""
    assert run(script, server, covered=False)[0] == "False True\n"


def make(server: Server, spool: str = "memory") -> Client:
    return Client(Settings(destinations=(batches(server.url),), trust_env=False, spool=spool))


def test_the_first_keyed_record_warns_once(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    client = make(server)
    client.analytics.capture("seen", user_id="user_1")
    assert client.flush(20.0)
    assert WARNING not in caplog.text

    for number in range(3):
        client.analytics.capture("paid", user_id="user_1", key=f"order:{number}")
    assert client.flush(20.0)
    assert caplog.text.count(WARNING) == 1
    client.shutdown()


def test_a_durable_spool_needs_no_warning(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    client = make(server, f"sqlite:///{tmp_path}/spool.db")
    client.analytics.capture("paid", user_id="user_1", key="order:1")
    assert client.flush(20.0)

    assert WARNING not in caplog.text
    client.shutdown()


def test_a_single_worker_needs_no_warning(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    client = make(server)
    client.analytics.capture("paid", user_id="user_1", key="order:1")
    assert client.flush(20.0)

    assert WARNING not in caplog.text
    client.shutdown()


def test_a_child_of_multiprocessing_is_known_by_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "multiprocessing.process", SimpleNamespace(parent_process=object))

    assert workers.may_have_peers(["app.py"], {})
