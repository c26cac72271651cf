"""Small programs of users, as two strict type checkers see them without configuration."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = sorted(path.name for path in HERE.glob("*.py") if not path.name.startswith("test_"))
PACKAGES = [str(ROOT / "core"), str(ROOT)]
"""Where an installed package would be found by itself."""


def mypy(folder: Path) -> list[str]:
    """Output of mypy for all of them, in one run."""
    configuration = folder / "mypy.ini"
    configuration.write_text("[mypy]\nstrict = true\npython_version = 3.11\nexplicit_package_bases = true\n")
    ran = run(
        *("mypy", "--config-file", str(configuration), "--no-error-summary"),
        *("--cache-dir", str(ROOT / ".mypy_cache" / "programs"), *PROGRAMS),
    )
    return [line for line in ran.splitlines() if ": error:" in line]


def pyright(folder: Path) -> list[str]:
    """Output of pyright; it reads sessionsight's modules, and reports only on the programs."""
    configuration = folder / "pyrightconfig.json"
    options = {
        "include": [str(HERE / program) for program in PROGRAMS],
        "extraPaths": PACKAGES,
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    configuration.write_text(json.dumps(options))
    # basedpyright is pyright with a Node.js of its own; its `strict` is pyright's.
    arguments = ("--project", str(configuration), "--pythonpath", sys.executable, "--outputjson")
    found = json.loads(run("basedpyright", *arguments))
    assert found["summary"]["filesAnalyzed"] == len(PROGRAMS)
    return [
        f"{Path(finding['file']).name}:{finding['range']['start']['line'] + 1}: {finding['message']}"
        for finding in found["generalDiagnostics"]
    ]


def run(*command: str) -> str:
    """Return a checker's output, also if it reports errors."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=HERE,
        env={**os.environ, "MYPYPATH": os.pathsep.join(PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode in {0, 1}, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session", params=[mypy, pyright])
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Findings of a checker in all of the programs."""
    checker: Callable[[Path], list[str]] = request.param
    return checker(tmp_path_factory.mktemp("checker"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_users_program_passes_a_strict_type_checker_and_wrong_lines_do_not(program: str, findings: list[str]) -> None:
    # A wrong line that passes is found as well: its `type: ignore` is then unused, which is an error.
    assert [line for line in findings if line.startswith(f"{program}:")] == []


def test_our_own_modules_bring_no_errors_into_a_users_program(findings: list[str]) -> None:
    assert [line for line in findings if not line.startswith(tuple(f"{name}:" for name in PROGRAMS))] == []
