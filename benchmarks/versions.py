"""The request rows on several interpreters: `make bench-versions PYTHONS="python3.13 python3.14"`.

Each interpreter gets an environment of its own. They take turns within each framework.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.isolated import isolated
from benchmarks.page import PUBLISH, publish
from benchmarks.rows.requests import AIMS
from benchmarks.server import ROOT
from benchmarks.table import Row, machine, side_by_side, today

_DESCRIBE = """
import platform, sys
threads = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
print(f"{platform.python_implementation()} {platform.python_version()}{threads}")
"""


def environment(python: str, folder: Path) -> str:
    """Install sessionsight and the frameworks, and return the environment's interpreter."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    installed = str(folder / "bin" / "python")
    subprocess.run(
        [installed, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[django,flask,starlette]"], check=True
    )
    return installed


def main() -> None:
    columns: dict[str, list[Row]] = {}
    interpreters: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, python in enumerate(name for name in sys.argv[1:] if name != PUBLISH):
            interpreter = environment(python, Path(folder, str(number)))
            described = subprocess.run([interpreter, "-c", _DESCRIBE], stdout=subprocess.PIPE, check=True, text=True)
            interpreters[described.stdout.strip()] = interpreter
        for framework in AIMS:
            for name, interpreter in interpreters.items():
                columns.setdefault(name, []).extend(isolated("requests", framework, python=interpreter))
    publish("versions", f"sessionsight, {today()}, {machine()}", side_by_side(columns))


if __name__ == "__main__":
    main()
