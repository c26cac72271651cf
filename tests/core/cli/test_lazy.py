"""Commands are imported when they are run, and name missing extras."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import click
import pytest
from click.testing import CliRunner, Result

from sessionsight.cli import main
from sessionsight.cli.lazy import LazyCommand, LazyGroup
from tests.core.cli.commands import run
from tests.core.cli.conftest import WriteModule

pytestmark = pytest.mark.processes


def run_one(module: str, *arguments: str, extra: str | None = "inspector") -> Result:
    group = LazyGroup("sessionsight", lazy={"look": LazyCommand(module, "Look around.", extra)})
    return CliRunner().invoke(group, arguments)


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_each_command_has_a_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert run(name, "--help").output.startswith(f"Usage: main {name} ")


def test_the_help_names_all_commands_and_imports_none(write: WriteModule) -> None:
    result = run_one(write("raise AssertionError"), "--help")
    assert (result.exit_code, "look  Look around." in result.output) == (0, True)


def test_importing_the_package_does_not_import_click() -> None:
    code = "import sys, sessionsight; print('click' in sys.modules)"
    assert python(code).stdout == "False\n"


@pytest.mark.parametrize("arguments", [(), ("--port", "8000", "now"), ("--help",)])
def test_a_command_without_its_extra_names_the_extra(
    arguments: tuple[str, ...], write: WriteModule, folder: object
) -> None:
    result = run_one(loadable(write("import nowhere_to_be_found.at_all")), "look", *arguments)
    assert result.exit_code == 1
    assert result.output == (
        "Error: `look` needs the package nowhere_to_be_found: pip install 'sessionsight[inspector]'\n"
    )


def test_a_command_names_a_module_of_the_standard_library_that_this_python_lacks(write: WriteModule) -> None:
    absent = next(name for name in ("winreg", "syslog") if find_spec(name) is None)
    result = run_one(loadable(write(f"import {absent}")), "look")
    assert (result.exit_code, result.output) == (
        1,
        f"Error: `look` needs {absent}, which this Python does not have\n",
    )


@pytest.mark.parametrize("package", ["jinja2", "starlette", "uvicorn"])
def test_the_inspector_requires_its_extra(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom sessionsight.cli import main\nmain(['inspector'])"
    ran = python(code)
    assert ran.returncode == 1
    assert ran.stderr == f"Error: `inspector` needs the package {package}: pip install 'sessionsight[inspector]'\n"


def test_the_inspector_requires_sqlite() -> None:
    ran = python("import sys; sys.modules['sqlite3'] = None\nfrom sessionsight.cli import main\nmain(['inspector'])")
    assert ran.returncode == 1
    assert ran.stderr == "Error: `inspector` needs sqlite3, which this Python does not have\n"


@pytest.mark.parametrize("command", [["spool", "stats"], ["dead-letters", "list"]])
@pytest.mark.parametrize("module", ["fcntl", "sqlite3"])
def test_a_file_requires_file_locks_and_sqlite(command: list[str], module: str) -> None:
    arguments = [*command, "--spool", "spool.db"]
    code = f"import sys; sys.modules[{module!r}] = None\nfrom sessionsight.cli import main\nmain({arguments})"
    ran = python(code)
    assert ran.returncode == 1
    assert ran.stderr == f"Error: spool: a file needs {module}, which this Python does not have\n"


@pytest.mark.parametrize(
    ("code", "extra"), [("import nowhere_to_be_found", None), ("import sessionsight.nowhere", "inspector")]
)
def test_an_internal_import_error_is_not_reported_as_a_missing_extra(
    code: str, extra: str | None, write: WriteModule
) -> None:
    result = run_one(loadable(write(code)), "look", extra=extra)
    assert type(result.exception) is ModuleNotFoundError


def test_our_errors_end_a_command_without_a_traceback(write: WriteModule) -> None:
    code = "import click, sessionsight\n@click.command()\ndef command(): raise sessionsight.ConfigurationError('no')"
    result = run_one(loadable(write(code)), "look")
    assert (result.exit_code, result.output) == (1, "Error: no\n")


def test_an_unknown_command_exits_with_2() -> None:
    assert run("chekc").exit_code == 2


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert run("--version").output == f"sessionsight {version('sessionsight')}\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def loadable(module: str) -> str:
    """Make a module in the current directory importable."""
    sys.path.insert(0, "")
    return module
