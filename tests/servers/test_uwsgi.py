"""uWSGI without threads: the last that does was 2.0.26, which is installed apart from the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.servers.server import need, serve
from tests.servers.table import WSGI, spool_environment

pytestmark = pytest.mark.servers

OLD = Path(sys.prefix) / "uwsgi-2.0.26"
PLACE = "--virtualenv BIN/.. --http-socket 127.0.0.1:PORT --add-header 'Connection: close'"


@pytest.mark.parametrize(("options", "spool"), [("", "memory"), ("", "sqlite"), ("--master --processes 2", "memory")])
def test_without_threads_a_record_leaves_before_its_request_is_over_and_one_warning_says_so(
    options: str, spool: str, tmp_path: Path
) -> None:
    need("uWSGI 2.0.26", (OLD / "bin" / "uwsgi").exists(), f"pip install --target {OLD} uWSGI==2.0.26")
    command = f"{OLD}/bin/uwsgi --die-on-term {options} {PLACE} --module {WSGI['flask']}"
    with serve(command, tmp_path, options={"linger": 3600.0}, environment=spool_environment(spool, tmp_path)) as site:
        site.visit(250)

        # uWSGI calls what ends a response when the client has it already, so the last ones may still be on their way.
        site.vendor.wait_until(lambda: site.arrived().total() >= 250, "the last records, from a server that runs")
        site.stop()
        site.each_once()
        assert site.log().count("uWSGI does not run threads") == 1
