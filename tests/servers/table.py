"""The servers, and how docs/deployment.md says to start them.

A command is the one of the page up to the app; where it listens and which app it serves is added here.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pytest
from _pytest.mark import ParameterSet

from tests.servers.server import BIN, need

WSGI = {"flask": "tests.servers.apps.flask_site:app", "django": "tests.servers.apps.django_wsgi:application"}
ASGI = {"starlette": "tests.servers.apps.starlette_site:app", "django": "tests.servers.apps.django_asgi:application"}
APPS = {**WSGI, **ASGI, "django-asgi": ASGI["django"], "django": WSGI["django"]}

# Where each server is told to listen, and what to serve.
_PLACES = {
    "daphne": "--bind 127.0.0.1 --port PORT APP",
    "granian": "--host 127.0.0.1 --port PORT APP",
    "gunicorn": "--bind 127.0.0.1:PORT APP",
    "hypercorn": "--bind 127.0.0.1:PORT APP",
    "uvicorn": "--port PORT APP",
    "uwsgi": "--virtualenv BIN/.. --http-socket 127.0.0.1:PORT --add-header 'Connection: close' --module APP",
}
_PACKAGES = {"uwsgi": "uWSGI", "uvicorn_worker": "uvicorn-worker"}

# By itself SIGTERM makes uWSGI reload, and with `--die-on-term` it ends workers during a request.
_GRACEFUL = '--hook-master-start "unix_signal:15 gracefully_kill_them_all"'


class Row(NamedTuple):
    """A server with its options, and the app in it."""

    command: str
    """As on the page, up to the app."""
    app: str
    """A name in `APPS`."""
    module: str | None = None
    """A module that it needs beside its program."""
    on_file: bool = False
    """True if it is tested with a spool in a file as well."""

    @property
    def id(self) -> str:
        """The test's name."""
        return f"{self.command} {self.app}"

    @property
    def line(self) -> str:
        """The whole command, for `serve`."""
        place = _PLACES[self.command.partition(" ")[0]]
        return f"{self.command} {place.replace('APP', APPS[self.app])}"

    @property
    def workers(self) -> int:
        """How many processes answer."""
        number = re.search(r"--(?:workers|processes) (\d+)", self.command)
        return int(number[1]) if number else 1

    def needed(self) -> None:
        """Skip the test, or fail in CI, where the server is not installed."""
        program = self.command.partition(" ")[0]
        need(program, (BIN / program).exists(), f"pip install {_PACKAGES.get(program, program)}")
        if self.module is not None:
            package = _PACKAGES.get(self.module, self.module)
            need(package, importlib.util.find_spec(self.module), f"pip install {package}")


ROWS = [
    # gunicorn
    Row("gunicorn --workers 2", "django"),
    Row("gunicorn --workers 2 --threads 4", "flask"),
    Row("gunicorn --workers 2 --threads 4 --preload", "django", on_file=True),
    Row("gunicorn --workers 2 --threads 4 --max-requests 200 --max-requests-jitter 50", "flask", on_file=True),
    Row("gunicorn --workers 2 --worker-class gevent", "flask", "gevent"),
    Row("gunicorn --workers 2 --worker-class gevent --preload", "django", "gevent", on_file=True),
    Row("gunicorn --workers 2 --worker-class uvicorn_worker.UvicornWorker", "starlette", "uvicorn_worker"),
    Row("gunicorn --workers 2 --worker-class uvicorn_worker.UvicornWorker", "django-asgi", "uvicorn_worker"),
    # uvicorn
    Row("uvicorn", "starlette"),
    Row("uvicorn", "django-asgi"),
    Row("uvicorn --workers 2", "starlette", on_file=True),
    # granian
    Row("granian --interface asgi --workers 2", "starlette", on_file=True),
    Row("granian --interface wsgi --workers 2", "flask"),
    # hypercorn, daphne
    # With several workers it kills the others when the first has ended, whatever they are at (0.18).
    Row("hypercorn", "starlette", on_file=True),
    Row("daphne", "django-asgi", on_file=True),
    # uWSGI
    Row(f"uwsgi --master {_GRACEFUL} --processes 2", "flask"),
    Row(f"uwsgi --master --enable-threads {_GRACEFUL} --processes 2", "flask", on_file=True),
    Row(f"uwsgi --master --enable-threads {_GRACEFUL} --processes 2 --lazy-apps", "django"),
    Row(f"uwsgi --master --enable-threads {_GRACEFUL} --processes 2 --threads 4", "django"),
]

KILLED = [*{row.command.partition(" ")[0]: row for row in ROWS if row.on_file}.values()]
"""One of each server with a spool in a file. It is killed, started again, and ended gracefully."""

PATIENT = {"linger": 3600.0, "shutdown_timeout": 20.0}
"""Settings with which nothing leaves before its batch is full or the process ends, so that the end has something to do,
and all the time for it that a busy machine needs."""

WAITING = {"spool_timeout": 20.0}
"""Settings with which a record always waits in the file, and never in memory because a busy machine writes slowly."""

SPOOLS = {"memory": "memory", "sqlite": "sqlite:///FOLDER/spool.db"}
"""Each server is tested with each of these, by name."""


def spool_environment(spool: str, folder: object) -> Mapping[str, str]:
    """The variables that choose a spool, with its files in this folder."""
    return {"SESSIONSIGHT_SPOOL": SPOOLS[spool].replace("FOLDER", str(folder))}


def with_spools(rows: Iterable[Row]) -> list[ParameterSet]:
    """Each row in memory, and those that are on a file there as well: parameters `row` and `spool`."""
    return [
        pytest.param(row, spool, id=f"{row.id} {spool}")
        for row in rows
        for spool in SPOOLS
        if spool == "memory" or row.on_file
    ]
