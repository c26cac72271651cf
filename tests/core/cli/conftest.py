from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.server import Server

_numbers = count()

WriteModule = Callable[[str], str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, whose modules are unloaded after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("module_"):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> WriteModule:
    """Writes a module with this code into the current directory, and returns its name."""

    def write(code: str) -> str:
        name = f"module_{os.getpid()}_{next(_numbers)}"
        (folder / f"{name}.py").write_text(code)
        return name

    return write


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
