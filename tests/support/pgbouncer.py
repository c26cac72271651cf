"""A pooler of PostgreSQL's transactions, for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.server import PATIENCE, until

__all__ = ["run_pgbouncer"]


@contextmanager
def run_pgbouncer(folder: Path, database: Mapping[str, Any]) -> Iterator[int]:
    """Run PgBouncer on a free port, which is yielded; skip the test where it is not installed.

    Args:
        folder: Its configuration and its log.
        database: Django's settings of the database.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None and not os.environ.get("CI"):
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    assert program is not None, "pgbouncer is not installed"
    port, configuration = free_port(), folder / "pgbouncer.ini"
    server = f"host={database['HOST']} port={database['PORT'] or 5432} user={database['USER']}"
    password = f" password={database['PASSWORD']}" if database["PASSWORD"] else ""
    configuration.write_text(
        f"[databases]\n* = {server}{password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 1\n"
    )
    user = ["--user", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    process = subprocess.Popen([program, *user, str(configuration)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or _listens(port), "it listens")
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
