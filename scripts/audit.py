"""Ask the advisory service for known vulnerabilities of installed packages.

    python scripts/audit.py [FOLDER]

FOLDER is a site-packages folder, by default that of the running Python. pip-audit must be installed. If the
service cannot be reached or knows none of the packages, the audit prints this and succeeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from typing import Any

_TIMEOUT = 180
"""Seconds for the whole audit."""


def main() -> int:
    """Audit and print the result; return the exit status, 1 if there is a vulnerability."""
    folder = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("purelib")
    command = [sys.executable, "-m", "pip_audit", "--path", folder, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        print(f"audit skipped: no answer within {_TIMEOUT} s")
        return 0
    try:
        report = json.loads(done.stdout)
    except ValueError:
        if "No module named pip_audit" in done.stderr:
            print("audit: pip-audit is not installed")
            return 1
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        print(f"audit skipped: the advisory service cannot be reached ({reason[0][:200]})")
        return 0
    status, lines = verdict(report)
    print("\n".join(lines))
    return status


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit status and the lines to print for a report of pip-audit."""
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    audited = len(packages) - len(skipped)
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    if lines:
        return 1, lines
    if not audited:
        return 0, ["audit skipped: the advisory service knows none of the packages here, so it cannot be the real one"]
    left_out = f"; not known there: {', '.join(skipped)}" if skipped else ""
    return 0, [f"no known vulnerability in {audited} packages{left_out}"]


if __name__ == "__main__":
    sys.exit(main())
