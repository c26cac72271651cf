"""With `flush="inline"` a host may freeze or kill the process as soon as the client has its answer."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.servers.server import serve
from tests.servers.table import Row, spool_environment, with_spools

pytestmark = pytest.mark.servers

ROWS = [
    Row("gunicorn --threads 4", "flask", on_file=True),
    Row("gunicorn", "django"),
    Row("uvicorn", "starlette", on_file=True),
    Row("uvicorn", "django-asgi"),
]


@pytest.mark.parametrize(("row", "spool"), with_spools(ROWS))
def test_a_record_has_arrived_when_its_answer_has(row: Row, spool: str, tmp_path: Path) -> None:
    row.needed()
    # An hour would be waited for others to share a batch, if anything waited.
    options = {"flush": "inline", "linger": 3600.0}
    with serve(row.line, tmp_path, options=options, environment=spool_environment(spool, tmp_path)) as site:
        for number in range(1, 26):
            site.visit(1, connections=1)
            site.signal(signal.SIGSTOP, group=True)
            assert site.arrived().total() == number
            site.signal(signal.SIGCONT, group=True)

        site.signal(signal.SIGKILL, group=True)
        site.end()
        site.each_once()
