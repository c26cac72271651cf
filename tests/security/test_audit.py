from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.audit import verdict

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [{"id": "CVE-2020-0001", "fix_versions": ["1.1"]}]}
STRANGE = {"name": "strange", "skip_reason": "Dependency not found on PyPI"}


def test_a_known_vulnerability_fails_the_audit_and_is_named() -> None:
    assert verdict({"dependencies": [SOUND, FLAWED, STRANGE]}) == (1, ["flawed 1.0: CVE-2020-0001, fixed in 1.1"])


def test_what_the_service_does_not_know_is_told() -> None:
    expected = (0, ["no known vulnerability in 1 packages; not known there: strange"])

    assert verdict({"dependencies": [SOUND, STRANGE]}) == expected


def test_a_service_that_knows_nothing_does_not_count_as_clean() -> None:
    status, [line] = verdict({"dependencies": [STRANGE]})

    assert status == 0
    assert line.startswith("audit skipped:")


def audit(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    """The script's run with this in place of pip-audit."""
    (folder / "pip_audit.py").write_text(module)
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, str(SCRIPT)], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_service_that_cannot_be_reached_skips_the_audit_with_a_word(tmp_path: Path) -> None:
    done = audit(tmp_path, "import sys; sys.exit('ConnectionError: nobody listens')")

    assert done.returncode == 0
    assert "audit skipped: the advisory service cannot be reached (ConnectionError: nobody listens)" in done.stdout


def test_a_report_decides_the_status(tmp_path: Path) -> None:
    done = audit(tmp_path, f"import json; print(json.dumps({{'dependencies': [{FLAWED}]}}))")

    assert done.returncode == 1
    assert "CVE-2020-0001" in done.stdout
