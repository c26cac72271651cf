"""Settings in an app's config: names, values, and when they are read."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
from flask import Flask

from sessionsight import ConfigurationError
from sessionsight.destinations import SessionSight as Vendor
from sessionsight.destinations import Signal
from sessionsight.settings import Settings
from sessionsight_flask import SessionSight

KEYS = {"SESSIONSIGHT_SECRET_API_KEY": "k", "SESSIONSIGHT_PROPERTY_ID": "p"}


def settings(config: dict[str, Any]) -> Settings:
    app = Flask("shop")
    app.config.from_mapping(config)
    SessionSight(app)
    return app.extensions["sessionsight"].settings  # type: ignore[no-any-return]


def test_the_documented_variables_are_taken_from_the_config() -> None:
    made = settings(
        {
            **KEYS,
            "SESSIONSIGHT_API_URL": "http://127.0.0.1:1",
            "SIGNAL_API_KEY": "k",
            "SIGNAL_PROJECT_ID": 42,
            "SAYTICS_SECRET_KEY_FILE": "/run/secrets/saytics",
            "ANALYSE_KEY": None,
            "SESSIONSIGHT_SPOOL": None,
            "SESSIONSIGHT_DISABLED": "false",
            "SESSIONSIGHT_STRICT": "1",
            "SESSIONSIGHT_QUEUE_RECORDS": "5",
            "SIGNAL_OF_ANOTHER": "x",
        }
    )
    assert [destination.name for destination in made.destinations] == ["sessionsight", "signal", "saytics"]
    vendor, signal = made.destinations[:2]
    assert isinstance(vendor, Vendor)
    assert vendor.api_url == "http://127.0.0.1:1"
    assert isinstance(signal, Signal)
    assert signal.project_id == "42"
    assert (made.disabled, made.strict, made.queue_records, made.spool) == (False, True, 5, "memory")


def test_a_whole_environment_may_be_in_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {**KEYS, "SESSIONSIGHT_SPOOL": "", "SESSIONSIGHT_PORT": "tcp://10.0.0.1:80", "SIGNAL_API_KEY": ""}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [destination.name for destination in settings(dict(os.environ)).destinations] == ["sessionsight"]
    with pytest.raises(ConfigurationError, match="unknown option 'SESSIONSIGHT_PROT'"):
        settings({"SESSIONSIGHT_PROT": "x"})


def test_a_misspelt_variable_in_the_config_is_told_its_name() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'SESSIONSIGHT_SECRET_API_KEY'"):
        settings({"SESSIONSIGHT_API_KEY": "x"})


def test_an_option_overrides_a_variable_in_the_config_and_that_one_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSIONSIGHT_PROPERTY_ID", "process")
    monkeypatch.setenv("SESSIONSIGHT_SECRET_API_KEY_FILE", "/run/secrets/key")
    monkeypatch.setenv("SESSIONSIGHT_DISABLED", "1")
    [vendor] = settings({**KEYS, "SESSIONSIGHT_DESTINATIONS": None}).destinations
    assert isinstance(vendor, Vendor)
    assert (vendor.property_id, vendor.secret_api_key) == ("p", "k")
    made = settings({**KEYS, "SESSIONSIGHT_DESTINATIONS": {"signal": {"api_key": "k", "project_id": "1"}}})
    assert [destination.name for destination in made.destinations] == ["signal"]
    assert made.disabled
    assert not settings({**KEYS, "SESSIONSIGHT_DISABLED": False}).disabled


@pytest.mark.parametrize(("value", "disabled"), [("1", True), (True, True), ("0", False), ("", False), (None, False)])
def test_the_testing_variable_in_the_config_sends_nothing(value: Any, disabled: bool) -> None:
    assert settings({**KEYS, "SESSIONSIGHT_TESTING": value}).disabled is disabled


def test_a_dict_as_django_has_it_is_told_the_right_form() -> None:
    with pytest.raises(
        ConfigurationError, match=r'form for Django; in Flask .* app\.config\["SESSIONSIGHT_DESTINATIONS"'
    ):
        settings({"SESSIONSIGHT": {"DESTINATIONS": {}}})


def test_disabled_needs_no_keys() -> None:
    destinations = {"signal": {"api_key": None}, "sessionsight": {"secret_api_key": ""}}
    assert settings({"SESSIONSIGHT_DISABLED": True, "SESSIONSIGHT_DESTINATIONS": destinations}).disabled


@pytest.fixture
def late() -> Flask:
    """An app whose settings are complete only after `init_app`."""
    app = Flask("shop")
    app.config["SESSIONSIGHT_DESTINATIONS"] = {"analyse": {"public_key": "k"}}
    app.config["SESSIONSIGHT_DISABLED"] = True
    SessionSight(app)
    return app


CHANGES = [
    lambda config: config.update(SESSIONSIGHT_CONSENT="gpc"),
    lambda config: config.update(SESSIONSIGHT_DISABLED=False),
    lambda config: config.update(SIGNAL_API_KEY="k"),
    lambda config: config["SESSIONSIGHT_DESTINATIONS"]["analyse"].update(host="https://a.example"),
    lambda config: config.pop("SESSIONSIGHT_DESTINATIONS"),
]


@pytest.mark.parametrize("change", CHANGES, ids=["option", "other", "variable", "inside", "gone"])
def test_settings_after_init_app_are_told_at_the_first_request_and_by_check(
    change: Any, late: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    change(late.config)
    for _ in range(2):
        late.test_client().get("/")
    [message] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "after init_app, without effect: set app.config first" in message
    done = late.test_cli_runner().invoke(args=["sessionsight", "check"])
    assert "after init_app, without effect" in done.output
    assert done.exit_code == 1


def test_settings_before_init_app_are_not_told(late: Flask, caplog: pytest.LogCaptureFixture) -> None:
    late.config["OTHER"] = "x"
    late.test_client().get("/")
    assert caplog.records == []
    assert late.test_cli_runner().invoke(args=["sessionsight", "check"]).exit_code == 0
