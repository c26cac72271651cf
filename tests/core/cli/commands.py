"""Runs the command line, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sessionsight.cli import main

ROOT = Path(__file__).parents[3]


def run(*arguments: str, **options: Any) -> Result:
    """In this process. An error that is no command's own fails the test."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False, **options)


def start(
    *arguments: str, folder: Path, environ: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """In a process of its own, in this folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    packages = os.pathsep.join([str(ROOT / "core"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "sessionsight", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": packages, **(environ or {})},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
