"""The default client of the process, and its configuration."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight import Client, ConfigurationError, Settings, configure, current, get_client
from sessionsight.capture.current import reset_current, set_current, set_default_client, set_default_source
from tests.core.box import Recorder


def test_get_client_returns_the_configured_client() -> None:
    first = configure(disabled=True)
    assert get_client() is first
    second = configure(disabled=True)
    assert get_client() is second


def test_get_client_returns_the_client_of_the_request_or_scope(recorder: Recorder) -> None:
    process = Client(Settings())
    set_default_client(process)
    token = set_current(recorder.client.analytics)
    assert get_client() is recorder.client
    with process.scope():
        assert get_client() is process
    assert get_client() is recorder.client
    reset_current(token)
    assert get_client() is process


def test_a_dict_instead_of_settings_is_rejected_with_a_hint() -> None:
    options: Any = {"disabled": True}
    for make in (configure, Client):
        with pytest.raises(ConfigurationError, match=r"settings must be Settings, such as Settings\.from_mapping"):
            make(options)


def test_configure_raises_if_a_frameworks_settings_configure_the_client(recorder: Recorder) -> None:
    set_default_source(lambda: recorder.client, owner="settings.SESSIONSIGHT")
    with pytest.raises(
        ConfigurationError,
        match=r"configure\(\): settings\.SESSIONSIGHT configures the client of this process already; "
        r"write the options there and use sessionsight\.get_client\(\)",
    ):
        configure(disabled=True)
    assert get_client() is recorder.client
    current().capture("x")
    assert list(recorder.events()) == ["x"]


def test_the_core_in_installed_apps_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = SimpleNamespace(loading=True, apps_ready=False)
    monkeypatch.setitem(sys.modules, "django.apps", SimpleNamespace(apps=loading))
    monkeypatch.delitem(sys.modules, "sessionsight.apps", raising=False)
    with pytest.raises(ConfigurationError, match='replace it by "sessionsight_django"'):
        importlib.import_module("sessionsight.apps")
