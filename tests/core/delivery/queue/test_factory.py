from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from sessionsight import Client, Settings
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger


def test_the_spool_of_a_setting(tmp_path: Path) -> None:
    assert type(open_spool("memory", DeliveryOptions(), ThrottledLogger())) is MemorySpool
    assert type(open_spool(f"sqlite:///{tmp_path}/a.db", DeliveryOptions(), ThrottledLogger())) is DurableSpool
    assert list(tmp_path.iterdir()) == []  # the file is created when it is needed


def test_a_durable_spool_stores_records_before_the_response_ends(tmp_path: Path) -> None:
    assert Client(Settings(spool=f"sqlite:///{tmp_path}/a.db")).must_submit_early()
    assert not Client(Settings()).must_submit_early()


def test_a_python_without_file_locks_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigurationError, match="needs fcntl, which this Python does not have"):
        open_spool("sqlite:///a.db", DeliveryOptions(), ThrottledLogger())


def test_an_old_sqlite_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 23, 1))
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.24"):
        open_spool("sqlite:///a.db", DeliveryOptions(), ThrottledLogger())
