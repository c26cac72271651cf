"""A graceful stop loses nothing and doubles nothing, on every server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.server import serve
from tests.servers.table import KILLED, PATIENT, ROWS, WSGI, Row, spool_environment, with_spools
from tests.support.server import silence

pytestmark = pytest.mark.servers

# Two whole batches of 100 and half of one, so that even a single process has records left when it is told to stop.
REQUESTS = 250
# Enough for one of two workers to serve its last request and be replaced.
RECYCLING = 600


# In test_kill, others end with records in a file.
@pytest.mark.parametrize(
    ("row", "spool"), with_spools(row._replace(on_file=row.on_file and row not in KILLED) for row in ROWS)
)
def test_every_record_arrives_exactly_once(row: Row, spool: str, tmp_path: Path) -> None:
    row.needed()
    with serve(row.line, tmp_path, options=PATIENT, environment=spool_environment(spool, tmp_path)) as site:
        recycles = "--max-requests" in row.command
        site.visit(RECYCLING if recycles else REQUESTS)
        site.visit_workers(row.workers + recycles)
        site.stop()

        site.each_once()
        assert "records were lost" not in site.log()


@pytest.mark.parametrize("row", {row.command.partition(" ")[0]: row for row in ROWS}.values(), ids=lambda row: row.id)
def test_a_silent_vendor_keeps_no_server_from_ending(row: Row, tmp_path: Path) -> None:
    row.needed()
    with serve(row.line, tmp_path, options={"shutdown_timeout": 0.5}) as site:
        site.vendor.answer = silence()
        site.visit_workers(row.workers)
        site.stop()

        assert site.arrived().keys() <= set(site.answered)
        if row.app in WSGI:  # ASGI servers may end without the interpreter's exit, where that is told
            assert "records were lost" in site.log()
