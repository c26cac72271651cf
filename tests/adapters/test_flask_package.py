"""The names of the Flask package, which are imported when they are used."""

from __future__ import annotations

import sys

import pytest

import sessionsight.wsgi
import sessionsight_flask
from sessionsight import MissingDependencyError
from sessionsight_flask import wsgi

IMPORTED = ("sessionsight_flask.extension", "sessionsight_flask.typed")


@pytest.fixture
def _not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in IMPORTED:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sessionsight'"):
        sessionsight_flask.Sessionsight  # noqa: B018


@pytest.mark.usefixtures("_not_imported")
def test_without_flask_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)  # Python's way to say "not installed"
    with pytest.raises(MissingDependencyError, match=r"pip install 'sessionsight\[flask\]'"):
        sessionsight_flask.SessionSight  # noqa: B018


@pytest.mark.usefixtures("_not_imported")
def test_another_missing_module_is_not_blamed_on_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sessionsight_flask.config", None)
    with pytest.raises(ModuleNotFoundError, match=r"sessionsight_flask\.config"):
        sessionsight_flask.SessionSight  # noqa: B018


def test_the_wsgi_middleware_has_a_name_here_too() -> None:
    assert wsgi.AnalyticsMiddleware is sessionsight.wsgi.AnalyticsMiddleware
