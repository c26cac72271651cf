"""The adapters on the versions of their frameworks: `nox` for all sessions, `nox -s django-4.2` for one.

A session is a row of the table. The tests choose themselves by `-k`: the hosts of the conformance table and the
modules of an adapter have its name in theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True

RUNNER = ("pytest>=9", "pytest-randomly>=4", "hypothesis>=6.100", "trio>=0.25")
HOSTS = ("fastapi>=0.115.4", "flask[async]>=3", "uvicorn>=0.29")
"""What the conformance table imports, whichever of its hosts are asked for."""
DJANGO = ("djangorestframework>=3.15", "django-ninja>=1.3", "jinja2>=3")


@dataclass(frozen=True)
class Row:
    """One framework in one version, on one Python, and what is tested there."""

    python: str
    needs: tuple[str, ...]
    tests: tuple[str, ...]
    only: str
    """As pytest's `-k`."""
    without: tuple[str, ...] = field(default=())
    options: tuple[str, ...] = field(default=())
    """More of pytest's options."""


DJANGO_TESTS = ("tests/adapters/test_django*.py", "tests/conformance/test_table.py")
TABLE = {
    "django-4.2": Row(
        "3.11",
        ("Django~=4.2.0", *DJANGO),
        DJANGO_TESTS,
        "django",
        # asks for what Django 5 brought: async logins, and views that end when their client goes away
        without=("tests/adapters/test_django.py",),
    ),
    "django-5.2": Row("3.11", ("Django~=5.2.0", *DJANGO), DJANGO_TESTS, "django"),
    "django-newest": Row("3.13", ("Django>=6", *DJANGO), DJANGO_TESTS, "django"),
    # The floors of pyproject.toml, and httpx without its successor.
    "oldest": Row(
        "3.11",
        (
            *("Flask==3.0.0", "Werkzeug==3.0.0", "flask-login==0.6.3", "starlette==0.41.3", "fastapi==0.115.6"),
            *("httpx==0.27.0", "msgspec==0.19.0", "idna==3.0", "python-multipart==0.0.9"),
        ),
        ("tests/adapters/test_flask*.py", "tests/adapters/test_wsgi.py", "tests/adapters/test_asgi.py"),
        # Starlette leaves its routes in the scope since later; until then a page has no route.
        "not template_that_matched and not prefix_of_the_deployment",
        # What these call was deprecated by releases that came after them.
        options=("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"),
    ),
}


def add(name: str, row: Row) -> None:
    """Make a session of a row."""

    @nox.session(name=name, python=row.python)
    def session(session: nox.Session) -> None:
        session.install("--quiet", "--editable", ".[all]", *RUNNER, *HOSTS, *row.needs)
        files = sorted({str(file) for pattern in row.tests for file in Path().glob(pattern)} - {*row.without})
        session.run(
            "python",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            "-k",
            row.only,
            *row.options,
            *files,
            *session.posargs,
        )


for name, row in TABLE.items():
    add(name, row)
