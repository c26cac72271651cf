"""Runs the command line in this process or in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sessionsight.cli import main


def run(*arguments: str, **options: Any) -> Result:
    """Run a command in this process. Unexpected exceptions fail the test."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False, **options)


def start(
    *arguments: str, folder: Path, environ: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, in this folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-m", "sessionsight", *arguments],
        cwd=folder,
        env={**inherited, **(environ or {})},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
