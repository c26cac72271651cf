"""Test the adapters on several versions of their frameworks: `nox` for all sessions, `nox -s django-4.2` for one.

A session is a row of the table. Tests are selected by `-k`: the names of the conformance hosts and of an adapter's
test modules contain the adapter's name. `python-3.12` tests core and adapters on that Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True

RUNNER = ("pytest>=9", "pytest-randomly>=4", "hypothesis>=6.100", "trio>=0.25", "prometheus-client>=0.20")
HOSTS = ("fastapi>=0.115.4", "flask[async]>=3", "flask-login>=0.6.3", "uvicorn>=0.29")
"""Packages that the conformance table always imports."""
DRIVERS = ("psycopg[binary]>=3.1.8", "PyMySQL>=1.1")
DJANGO = ("djangorestframework>=3.15", "django-ninja>=1.3", "jinja2>=3", *DRIVERS)


@dataclass(frozen=True)
class Row:
    """One version of a framework on one Python, and the tests to run."""

    python: str
    needs: tuple[str, ...]
    tests: tuple[str, ...]
    only: str = ""
    """Value of pytest's `-k`; empty for all."""
    extra: str = "all"
    """Extra to install."""
    options: tuple[str, ...] = ()
    """Further options for pytest."""


TABLE_TESTS = "tests/conformance/test_table.py"
DJANGO_TESTS = ("tests/adapters/test_django*.py", TABLE_TESTS)
FLASK_TESTS = ("tests/adapters/test_flask*.py", "tests/adapters/test_wsgi.py")
TABLE = {
    "django-4.2": Row("3.11", ("Django~=4.2.0", *DJANGO), DJANGO_TESTS, "django"),
    "django-5.2": Row("3.11", ("Django~=5.2.0", *DJANGO), DJANGO_TESTS, "django"),
    "django-newest": Row(
        "3.13",
        ("Django>=6", "django-tasks-db>=0.13", *DJANGO),
        (*DJANGO_TESTS, "tests/core/propagation/test_django_tasks.py"),
        "django",
    ),
    "flask-newest": Row("3.12", ("Flask>=3.1", "flask-login>=0.6.3"), (*FLASK_TESTS, TABLE_TESTS), "flask or wsgi"),
    # With httpx2 instead of httpx, which the other rows use.
    "starlette-newest": Row(
        "3.12",
        ("starlette>=1", "fastapi>=0.130", "httpx2>=2", "python-multipart>=0.0.9"),
        ("tests/adapters/test_asgi.py", TABLE_TESTS),
        "asgi or starlette or fastapi",
    ),
    "sqlalchemy-oldest": Row(
        "3.11",
        ("SQLAlchemy==2.0.14", "sqlmodel>=0.0.22", "aiosqlite>=0.20", "greenlet>=3", *DRIVERS),
        (
            "tests/core/test_sqlalchemy.py",
            "tests/core/sqlalchemy/test_*.py",
        ),
    ),
    # Without psycopg. aiomysql 0.3 cannot write bytes with a newer PyMySQL.
    "drivers": Row(
        "3.11",
        (
            *("psycopg2-binary>=2.9", "mysqlclient>=2.2", "aiomysql>=0.3", "PyMySQL<1.2", "asyncmy>=0.2.10"),
            *("asyncpg>=0.30", "greenlet>=3", "sqlmodel>=0.0.22", "aiosqlite>=0.20"),
        ),
        (
            "tests/core/sqlalchemy/test_*.py",
            "tests/adapters/test_django_outbox.py",
            "tests/adapters/test_django_outbox_failures.py",
            "tests/adapters/test_django_outbox_store.py",
        ),
        "(postgresql or mariadb or asyncpg or aiomysql or asyncmy) and not relay",
    ),
    "python-3.12": Row(
        "3.12", (), ("tests/core", "tests/adapters"), extra="dev", options=("-n", "2", "--dist", "worksteal")
    ),
    # The lower bounds of pyproject.toml, and httpx without its successor.
    "oldest": Row(
        "3.11",
        (
            *("Flask==3.0.0", "Werkzeug==3.0.0", "flask-login==0.6.3", "starlette==0.41.3", "fastapi==0.115.6"),
            *("httpx==0.27.0", "msgspec==0.19.0", "idna==3.0", "click==8.1.3", "python-multipart==0.0.9"),
        ),
        (*FLASK_TESTS, "tests/adapters/test_asgi.py", "tests/core/cli"),
        # This Starlette does not put the route into the scope, so that a page has no route.
        "not template_that_matched and not prefix_of_the_deployment",
        # These versions call functions that newer dependencies deprecate.
        options=("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"),
    ),
}


def add(name: str, row: Row) -> None:
    """Add the session of a row."""

    @nox.session(name=name, python=row.python)
    def session(session: nox.Session) -> None:
        # `--upgrade`: a reused environment also gets the newest versions that its row allows
        session.install("--quiet", "--upgrade", "--editable", f".[{row.extra}]", *RUNNER, *HOSTS, *row.needs)
        files = sorted({str(file) for pattern in row.tests for file in Path().glob(pattern)})
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
