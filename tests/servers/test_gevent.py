"""gevent replaces threads and queues, before the app is imported or after."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.servers.server import need, serve
from tests.servers.table import PATIENT, SPOOLS, spool_environment

pytestmark = pytest.mark.servers

PATCH = "from gevent import monkey\nmonkey.patch_all()\n"
APP = "from tests.servers.apps.flask_site import app\n"
SERVE = """
import signal, sys
from gevent import signal_handler
from gevent.pywsgi import WSGIServer

server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None)
signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
"""


@pytest.mark.parametrize("spool", SPOOLS)
@pytest.mark.parametrize("program", [PATCH + APP + SERVE, APP + PATCH + SERVE], ids=["patched early", "patched late"])
def test_every_record_arrives_exactly_once(program: str, spool: str, tmp_path: Path) -> None:
    need("gevent", importlib.util.find_spec("gevent"), "pip install gevent")
    (tmp_path / "program.py").write_text(program, "utf-8")
    with serve(
        "BIN/python program.py PORT",
        tmp_path,
        options=PATIENT,
        environment=spool_environment(spool, tmp_path),
    ) as site:
        site.visit(250)
        site.stop()

        site.each_once()


@pytest.mark.parametrize("program", [PATCH + APP + SERVE, APP + PATCH + SERVE], ids=["patched early", "patched late"])
def test_records_leave_while_the_server_serves(program: str, tmp_path: Path) -> None:
    need("gevent", importlib.util.find_spec("gevent"), "pip install gevent")
    (tmp_path / "program.py").write_text(program, "utf-8")
    with serve("BIN/python program.py PORT", tmp_path) as site:
        site.visit(50)

        site.vendor.wait_until(lambda: site.arrived().total() == 50, "records while the server runs")
