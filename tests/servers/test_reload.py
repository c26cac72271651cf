"""Development servers start again when a file changes. What was captured before is neither lost nor doubled."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.servers.server import serve
from tests.servers.table import PATIENT, SPOOLS, Row, spool_environment, with_spools

pytestmark = pytest.mark.servers

SERVERS = {
    "django": (
        "BIN/python -m django runserver 127.0.0.1:PORT --settings watched",
        "from tests.servers.apps.django_site import *",
    ),
    "flask": (
        "BIN/flask --app watched run --reload --port PORT",
        "from tests.servers.apps.flask_site import app",
    ),
    "uvicorn": (
        "BIN/uvicorn --reload --port PORT watched:app",
        "from tests.servers.apps.starlette_site import app",
    ),
}


@pytest.mark.parametrize("spool", SPOOLS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_reload_delivers_what_was_captured_before(server: str, spool: str, tmp_path: Path) -> None:
    command, code = SERVERS[server]
    watched = tmp_path / "watched.py"
    watched.write_text(code, "utf-8")
    with serve(command, tmp_path, options=PATIENT, environment=spool_environment(spool, tmp_path)) as site:
        pid = site.pid()
        site.visit(120)
        watched.write_text(f"{code}  # changed\n", "utf-8")
        site.another_pid(than=pid)
        site.vendor.wait_until(lambda: site.arrived().total() >= 120, "what was captured before")
        site.each_once()


@pytest.mark.parametrize(
    ("row", "spool"),
    with_spools(
        [
            Row("gunicorn --threads 4", "flask", on_file=True),
            Row("granian --interface wsgi", "flask", on_file=True),
            Row("granian --interface asgi", "starlette"),
            Row("uwsgi --master --enable-threads", "flask", on_file=True),
        ]
    ),
)
def test_so_does_a_server_whose_workers_are_restarted(row: Row, spool: str, tmp_path: Path) -> None:
    row.needed()
    with serve(row.line, tmp_path, options=PATIENT, environment=spool_environment(spool, tmp_path)) as site:
        pid = site.pid()
        site.visit(120)
        site.signal(signal.SIGHUP)
        site.another_pid(than=pid)
        site.vendor.wait_until(lambda: site.arrived().total() >= 120, "what the worker before had captured")
        site.each_once()
