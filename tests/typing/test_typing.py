"""Small programs of users, as a strict type checker sees them with no configuration of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = sorted(path.name for path in HERE.glob("*.py") if not path.name.startswith("test_"))


@pytest.fixture(scope="session")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy has to say about all of them, in one run."""
    configuration = tmp_path_factory.mktemp("mypy") / "mypy.ini"
    configuration.write_text("[mypy]\nstrict = true\npython_version = 3.11\nexplicit_package_bases = true\n")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(configuration), "--no-error-summary"),
            *("--cache-dir", str(ROOT / ".mypy_cache" / "programs"), *PROGRAMS),
        ],
        cwd=HERE,
        # Where an installed package would be found by itself.
        env={**os.environ, "MYPYPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode in {0, 1}, ran.stdout + ran.stderr
    return [line for line in ran.stdout.splitlines() if ": error:" in line]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_users_program_passes_a_strict_type_checker_and_wrong_lines_do_not(program: str, findings: list[str]) -> None:
    # A wrong line that passes is found as well: its `type: ignore` is then unused, which is an error.
    assert [line for line in findings if line.startswith(f"{program}:")] == []


def test_our_own_modules_bring_no_errors_into_a_users_program(findings: list[str]) -> None:
    assert [line for line in findings if not line.startswith(tuple(f"{name}:" for name in PROGRAMS))] == []
