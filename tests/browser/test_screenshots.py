"""The pictures of the documentation can be drawn again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.browser
def test_the_script_draws_all_pictures_that_the_documentation_has(chromium: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "screenshots.py"), str(tmp_path)]
    environ = {**os.environ, "CHROMIUM": chromium}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    drawn = {file.name for file in tmp_path.iterdir()}
    assert drawn == {file.name for file in (ROOT / "docs" / "images").glob("inspector-*.png")}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())
