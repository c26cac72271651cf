"""Servers that SIGTERM ends at once, unless `install_sigterm()` makes it an ordinary exit."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.server import Site, need, serve
from tests.support.server import PATIENCE

pytestmark = pytest.mark.servers

START = """
import sys
import sessionsight
from tests.servers.apps.flask_site import app

sessionsight.install_sigterm()
host, port = "127.0.0.1", int(sys.argv[1])
"""
SERVERS = {
    "waitress": "import waitress\nwaitress.serve(app, host=host, port=port)",
    "cheroot": """
from cheroot.wsgi import Server

server = Server((host, port), app)
try:
    server.start()
finally:
    server.stop()
""",
    "wsgiref": "from wsgiref.simple_server import make_server\nmake_server(host, port, app).serve_forever()",
    "werkzeug": "app.run(host, port)",
}
EVENTLET = "import eventlet, eventlet.wsgi\neventlet.wsgi.server(eventlet.listen((host, port)), app, log_output=False)"
PATCH = "import eventlet\neventlet.monkey_patch()\n"
EVENTLETS = {
    "patched early": PATCH + START + EVENTLET,
    "patched late": "import eventlet\n" + START + PATCH + EVENTLET,
    "not patched": START + EVENTLET,
}
# Nothing leaves before the server is told to stop.
WAITING = {"linger": 3600.0, "shutdown_timeout": 20.0}


def stop(site: Site, number: signal.Signals) -> None:
    """Send the signal until the server ends: wsgiref swallows one that comes during a response."""
    deadline = time.monotonic() + PATIENCE
    while site.process.poll() is None:
        assert time.monotonic() < deadline, "the server does not end"
        site.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            site.process.wait(5.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("name", SERVERS)
def test_what_waits_in_memory_is_delivered_at_the_end(name: str, number: signal.Signals, tmp_path: Path) -> None:
    module = name.partition(" ")[0]
    need(module, importlib.util.find_spec(module), f"pip install {module}")
    (tmp_path / "program.py").write_text(START + SERVERS[name], "utf-8")
    with serve("BIN/python program.py PORT", tmp_path, options=WAITING) as site:
        site.visit(50, connections=4)
        stop(site, number)

        site.each_once()


@pytest.mark.parametrize("program", EVENTLETS.values(), ids=EVENTLETS)
def test_eventlet_delivers_while_it_serves_and_at_its_end(program: str, tmp_path: Path) -> None:
    need("eventlet", importlib.util.find_spec("eventlet"), "pip install eventlet")
    (tmp_path / "program.py").write_text(program, "utf-8")
    # Where trio is installed, dnspython, which eventlet imports, fails on eventlet's sockets.
    with serve("BIN/python program.py PORT", tmp_path, environment={"EVENTLET_NO_GREENDNS": "yes"}) as site:
        site.visit(50)
        site.vendor.wait_until(lambda: site.arrived().total() == 50, "records while the server runs")

    with serve(
        "BIN/python program.py PORT", tmp_path, options=WAITING, environment={"EVENTLET_NO_GREENDNS": "yes"}
    ) as site:
        site.visit(50)
        stop(site, signal.SIGTERM)

        site.each_once()
