"""Check the contents of a release: the wheel has exactly the five packages, with types, and the sdist is complete.

Usage: python scripts/check_dist.py DIRECTORY
"""

import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {"sessionsight", "sessionsight_asgi", "sessionsight_django", "sessionsight_flask", "sessionsight_pytest"}
KINDS = {".css", ".html", ".js", ".lua", ".py", ".svg", ".typed"}
"""Suffixes of the files that a package may contain."""
SDIST = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "core/sessionsight/__init__.py",
    "pyproject.toml",
    "tests/conftest.py",
}


def main() -> None:
    """Check the wheel and the sdist of a directory; exit with a list of problems."""
    folder = Path(sys.argv[1])
    faults = [*_wheel(_only(folder, "*.whl")), *_sdist(_only(folder, "*.tar.gz"))]
    if faults:
        sys.exit("\n".join(faults))
    print(f"wheel and sdist are complete: {', '.join(sorted(PACKAGES))}")


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{folder} contains {len(found)} files {pattern} instead of one")
    return found[0]


def _wheel(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    code = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    tops = {name.partition("/")[0] for name in code}
    for name in sorted(tops - PACKAGES):
        yield f"{path.name}: {name} does not belong at the top level"
    for package in sorted(PACKAGES):
        for file in ("__init__.py", "py.typed"):
            if f"{package}/{file}" not in code:
                yield f"{path.name}: {package}/{file} is missing"
    for name in sorted(code):
        if Path(name).suffix not in KINDS:
            yield f"{path.name}: {name} is not a source file"
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        yield f"{path.name}: the licence is missing"


def _sdist(path: Path) -> Iterator[str]:
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for name in sorted(SDIST - names):
        yield f"{path.name}: {name} is missing"
    for name in sorted(names):
        if "__pycache__" in name or name.endswith((".pyc", ".db")):
            yield f"{path.name}: {name} does not belong here"


if __name__ == "__main__":
    main()
