import math
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.destinations import Analyse, Saytics, SessionSight, Signal
from tests.core.box import BoxDestination

NUMBERS = [
    "queue_records",
    "queue_bytes",
    "breaker_failures",
    "dedupe_keys",
    "dead_letters",
    "spool_bytes",
    "max_response_bytes",
    "max_property_bytes",
]
ZERO_TOO = [
    "trusted_proxies",
    "linger",
    "backoff_base",
    "dedupe_window",
    "flush_timeout",
    "shutdown_timeout",
    "spool_timeout",
]
SECONDS = [
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "backoff_max",
    "retry_after_max",
    "pause_interval",
    "max_age",
    "dead_letters_max_age",
]
SWITCHES = ["disabled", "strict", "trust_env", "trace_id"]
FUNCTIONS = ["should_capture", "is_bot", "choose_destinations", "before_send", "on_error"]
TUPLES = ["redact", "exclude_paths"]
TEXTS = ["proxy", "ca_bundle"]
NAMES = ["anonymous_id_cookie", "anonymous_id_header"]
CHOICES = {
    "spool": "'memory', 'sqlite:",
    "spool_synchronous": "'normal', 'full'",
    "flush": "'background', 'inline'",
    "delivery": "'background', 'relay'",
    "user": "'loaded', 'always' or a function",
    "client_ip": "'off', 'truncated', 'full'",
    "consent": "'all', 'gpc', 'gpc\\+dnt' or a function",
    "goals_on_unknown": "'dead_letter', 'retry'",
}


def wrong(names: list[str], values: list[Any], expected: str) -> list[tuple[str, Any, str]]:
    return [(name, value, expected) for name in names for value in values]


WRONG = [
    *wrong(NUMBERS, [0, -1, 1.5, "5", True, None], "a whole number of at least 1"),
    *wrong(["trusted_proxies"], [-1, 0.5, "1", False, None], "a whole number of at least 0"),
    *wrong(ZERO_TOO[1:], [-0.1, math.nan, math.inf, "5", True, None], "a number of at least 0"),
    *wrong(SECONDS, [0, -1, math.nan, math.inf, "5", True, None], r"a number of at least 0\.001"),
    *wrong(SWITCHES, [1, 0, "yes", None], "True or False"),
    *wrong(FUNCTIONS, [1, "x"], "a function"),
    *wrong(["pageviews"], [1, 0, "yes", None], "True, False or a function"),
    *wrong(TUPLES, ["x", ["x"], (1,), None], "a tuple of strings"),
    *wrong(TEXTS, [1, "", "  "], "a string that is not blank"),
    *wrong(["time_zone"], ["", "Europe/Berln", "Europe", "../x", "/etc/localtime", 1], "the name of an IANA time zone"),
    *wrong(["anonymous_id_cookie"], [1, "", "a b", "a;b", "ä"], "the name of a cookie"),
    *wrong(["anonymous_id_header"], [1, "", "a:b", "a\n"], "the name of a header"),
    *(case for name, choices in CHOICES.items() for case in wrong([name], ["x", 5, [], None], f"one of {choices}")),
    *wrong(["destinations"], [{}, "signal", (Signal,), ({"signal": {}},), (None,)], "a tuple of destinations"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG, ids=map(str, range(len(WRONG))))
def test_an_invalid_value_is_rejected_with_the_accepted_ones(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be {expected}.*, not "):
        Settings(**{name: value})


def test_the_message_about_a_tuple_describes_the_item_at_fault() -> None:
    with pytest.raises(ConfigurationError, match=r"^exclude_paths must be a tuple of strings, not a tuple with 1$"):
        Settings.from_mapping({"exclude_paths": ["/health", 1]}, environ={})


def test_a_list_of_names_is_rejected_with_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"'signal' is not a destination object; .*\{'signal': \{'api_key'"):
        Settings.from_mapping({"destinations": ["signal"]}, environ={})


def test_a_key_in_place_of_a_destinations_options_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"'signal' must be a mapping of options or .*, not a str; known"):
        Settings.from_mapping({"destinations": {"signal": "sk_secret"}}, environ={})


def test_every_setting_is_checked() -> None:
    assert {name for name, _, _ in WRONG} == set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ZERO_TOO),
        *((name, 5) for name in [*SECONDS, *NUMBERS]),
        *((name, value) for name in FUNCTIONS for value in (None, print)),
        *(("pageviews", value) for value in (True, False, print)),
        *((name, "x-id") for name in NAMES),
        *((name, print) for name in ("user", "consent")),
        ("destinations", (BoxDestination(),)),
        ("anonymous_id_cookie", "__Host-id"),
        *(("time_zone", value) for value in ("Europe/Berlin", UTC, ZoneInfo("Asia/Tokyo"))),
        ("spool", "sqlite:///analytics.db"),
        ("spool", "sqlite:////var/lib/shop/analytics.db"),
        ("spool_synchronous", "full"),
    ],
)
def test_a_valid_value_is_kept(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}), name) == value


def test_no_two_destinations_share_a_name() -> None:
    with pytest.raises(ConfigurationError, match="two are named 'box'; each lane needs a name of its own"):
        Settings(destinations=(BoxDestination(), BoxDestination("other"), BoxDestination()))


def test_settings_are_a_value() -> None:
    settings = Settings(linger=1)
    assert settings == Settings(linger=1.0)
    with pytest.raises(AttributeError):
        settings.linger = 2  # type: ignore[misc]
    with pytest.raises(ConfigurationError):
        msgspec.structs.replace(settings, linger=-1)


# --- from a mapping ------------------------------------------------------------------------------------


def test_a_mapping_names_options_in_any_case() -> None:
    settings = Settings.from_mapping(
        {
            "DESTINATIONS": {
                "sessionsight": {"SECRET_API_KEY": "sec", "property_id": "shop"},
                "signal": {"api_key": "key", "project_id": "shop"},
                "mine": BoxDestination("mine"),
            },
            "Exclude_Paths": ["/health*"],
            "redact": {"pin"},
        },
        strict=True,
    )
    assert [destination.name for destination in settings.destinations] == ["sessionsight", "signal", "mine"]
    assert isinstance(settings.destinations[0], SessionSight)
    assert (settings.exclude_paths, settings.redact, settings.strict) == (("/health*",), ("pin",), True)


def test_an_option_overrides_a_default() -> None:
    assert Settings.from_mapping({"STRICT": False}, strict=True).strict is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"STRCT": True}, "SESSIONSIGHT: unknown option 'STRCT'; did you mean 'STRICT'?"),
        ({"strct": True}, "SESSIONSIGHT: unknown option 'strct'; did you mean 'strict'?"),
        ({"QQQ": True}, "SESSIONSIGHT: unknown option 'QQQ'; known are ANONYMOUS_ID_COOKIE, "),
        ({5: True}, "SESSIONSIGHT: unknown option 5; known are "),
        ({"DESTINATIONS": {"signl": {}}}, "unknown option 'signl'; did you mean 'signal'?"),
        ({"DESTINATIONS": {"signal": {"apikey": "k"}}}, "unknown option 'apikey'; did you mean 'api_key'?"),
        ({"DESTINATIONS": {"signal": {}}}, "destination 'signal': api_key is missing or blank"),
        ({"DESTINATIONS": {"signal": "secret"}}, "SESSIONSIGHT: destination 'signal' must be a mapping of options or"),
        ({"DESTINATIONS": "signal"}, "SESSIONSIGHT: destinations must map names to options, not be 'signal'"),
        (None, "SESSIONSIGHT must be a mapping of options to values, not None"),
        ([("STRICT", True)], "SESSIONSIGHT must be a mapping of options to values, not a list"),
    ],
    ids=map(str, range(11)),
)
def test_an_invalid_mapping_is_rejected_with_a_suggestion(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_mapping(options, where="SESSIONSIGHT")
    assert message in str(caught.value)


def test_destinations_come_from_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "pk")
    monkeypatch.setenv("SESSIONSIGHT_DISABLED", "1")
    assert [destination.name for destination in Settings.from_mapping({}).destinations] == ["analyse"]
    assert Settings.from_mapping({}).disabled
    assert Settings.from_mapping({"destinations": {}, "disabled": False}) == Settings()


def test_given_destinations_replace_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNAL_API_KEY", "key")
    monkeypatch.setenv("SIGNAL_API_KEY_FILE", "/run/secrets/signal")
    with pytest.raises(ConfigurationError, match="both SIGNAL_API_KEY and SIGNAL_API_KEY_FILE are set"):
        Settings.from_mapping({})
    assert Settings.from_mapping({"destinations": {}}) == Settings.from_env(destinations={}) == Settings()


# --- from the environment ------------------------------------------------------------------------------

EVERYTHING = {
    "SESSIONSIGHT_SECRET_API_KEY": "sec",
    "SESSIONSIGHT_PROPERTY_ID": "shop",
    "SESSIONSIGHT_API_URL": "https://one.example/",
    "SIGNAL_API_KEY": "key",
    "SIGNAL_PROJECT_ID": "project",
    "SIGNAL_ENDPOINT": "https://two.example",
    "SAYTICS_SECRET_KEY": "sk",
    "SAYTICS_API_URL": "https://three.example",
    "ANALYSE_KEY": "pk",
    "ANALYSE_HOST": "https://four.example",
}


def test_the_environment_configures_every_destination() -> None:
    assert Settings.from_env(EVERYTHING).destinations == (
        SessionSight(secret_api_key="sec", property_id="shop", api_url="https://one.example"),
        Signal(api_key="key", project_id="project", endpoint="https://two.example"),
        Saytics(secret_key="sk", api_url="https://three.example"),
        Analyse(public_key="pk", host="https://four.example"),
    )


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"SESSIONSIGHT_SECRET_API_KEY": "sec"}, []),
        ({"SESSIONSIGHT_SECRET_API_KEY": "sec", "SESSIONSIGHT_PROPERTY_ID": " "}, []),
        ({"SESSIONSIGHT_SECRET_API_KEY": "sec", "SESSIONSIGHT_PROPERTY_ID": "shop"}, ["sessionsight"]),
        ({"SIGNAL_PROJECT_ID": "p", "SIGNAL_ENDPOINT": "https://x.example"}, []),
        ({"SIGNAL_API_KEY": "key"}, ["signal"]),
        ({"SAYTICS_API_URL": "https://x.example"}, []),
        ({"SAYTICS_SECRET_KEY": "sk", "ANALYSE_KEY": "pk"}, ["saytics", "analyse"]),
    ],
)
def test_a_destination_is_configured_if_its_keys_are_set(environ: dict[str, str], names: list[str]) -> None:
    assert [destination.name for destination in Settings.from_env(environ).destinations] == names


@pytest.mark.parametrize("value", ["", "0", "false", "No", " off "])
def test_disabled_can_be_switched_off(value: str) -> None:
    assert not Settings.from_env({"SESSIONSIGHT_DISABLED": value}).disabled


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_disabled_can_be_switched_on(value: str) -> None:
    assert Settings.from_env({"SESSIONSIGHT_DISABLED": value}).disabled


def test_an_invalid_value_of_disabled_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="disabled must be True or False, not 'n'"):
        Settings.from_env({"SESSIONSIGHT_DISABLED": "n"})


def test_given_values_override_the_environment() -> None:
    assert (
        Settings.from_env({**EVERYTHING, "SESSIONSIGHT_DISABLED": "1"}, disabled=False, destinations={}) == Settings()
    )


def test_an_unknown_option_of_from_env_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'linger'"):
        Settings.from_env({}, lingr=1)


def test_an_unknown_spool_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="spool must be one of"):
        Settings.from_env({"SESSIONSIGHT_SPOOL": "carrier-pigeon://"})


@pytest.mark.parametrize(
    "spool",
    [
        "redis://:hunter2@cache.example.com/0?password=hunter2",
        *(f"redis://shop:hunter2{mark}hunter2@cache.example.com/0?namespace=a b" for mark in "/?#@"),
        "sqlalchemy:postgresql+psycopg://shop:hunter2@hunter2@cache.example.com/0",
        "postgresql://shop:hunter2/hunter2@cache.example.com/0",
    ],
)
def test_the_error_about_an_unknown_spool_does_not_show_its_password(spool: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not '[a-z+:]*//cache\.example\.com/0'$") as caught:
        Settings(spool=spool)
    assert "hunter2" not in str(caught.value)


# --- secrets -------------------------------------------------------------------------------------------

SECRET = "do-not-show-this"


def test_no_secret_is_in_a_repr() -> None:
    settings = Settings.from_env(
        dict.fromkeys(EVERYTHING, SECRET)
        | {
            name: f"https://{number}.example"
            for number, name in enumerate(
                ["SESSIONSIGHT_API_URL", "SIGNAL_ENDPOINT", "SAYTICS_API_URL", "ANALYSE_HOST"]
            )
        }
        | {"SESSIONSIGHT_PROPERTY_ID": "shop", "SIGNAL_PROJECT_ID": "shop"},
        proxy=f"http://me:{SECRET}@proxy.example",
    )
    assert len(settings.destinations) == 4
    assert SECRET not in repr(settings)
    assert "shop" in repr(settings)


def test_a_repr_shows_values_that_differ_from_the_defaults() -> None:
    assert repr(Settings()) == "Settings()"
    assert repr(Settings(linger=1, proxy="http://p", strict=True)) == "Settings(linger=1, proxy=***, strict=True)"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings(destinations={"signal": {"api_key": SECRET}}),  # type: ignore[arg-type]
        lambda: Settings(destinations=({"signal": {"api_key": SECRET}},)),  # type: ignore[arg-type]
        lambda: Settings.from_mapping({"destinations": {"signal": {"api_key": SECRET, "batch_size": "x"}}}),
        lambda: Settings.from_mapping({"destinations": {"signal": [SECRET]}}),
        lambda: Settings.from_mapping({"destinations": {"signal": {"api_key": [SECRET]}}}),
        lambda: Settings.from_mapping({"destinations": {"sessionsight": {"secret_api_key": SECRET}}}),
        lambda: Settings(proxy={"https": SECRET}),  # type: ignore[arg-type]
    ],
    ids=map(str, range(7)),
)
def test_no_secret_is_in_an_error(make: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert SECRET not in str(caught.value)


# --- Values from an environment ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("Yes", True), (" on ", True), ("0", False), ("false", False), ("No", False)],
)
@pytest.mark.parametrize("name", [*SWITCHES, "pageviews"])
def test_a_boolean_may_be_text(name: str, text: str, value: bool) -> None:
    assert getattr(Settings.from_mapping({name: text}), name) is value


def test_a_number_may_be_text() -> None:
    settings = Settings.from_mapping({"QUEUE_RECORDS": "5", "linger": " 0.5 ", "TRUSTED_PROXIES": "1", "MAX_AGE": "7"})
    assert (settings.queue_records, settings.linger, settings.trusted_proxies, settings.max_age) == (5, 0.5, 1, 7)
    assert Settings.from_env({}, queue_records="6").queue_records == 6


def test_options_of_a_destination_may_be_text_too() -> None:
    options = {"public_key": "1", "batch_size": "5", "share_visitor_id": "false"}
    [made] = Settings.from_mapping({"destinations": {"analyse": options}}).destinations
    assert isinstance(made, Analyse)
    assert (made.public_key, made.batch_size, made.share_visitor_id) == ("1", 5, False)


@pytest.mark.parametrize(
    ("name", "text"), [("strict", "maybe"), ("queue_records", "5.5"), ("linger", "nan"), ("pageviews", "some")]
)
def test_text_that_cannot_be_converted_is_rejected(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be .*, not "):
        Settings.from_mapping({name: text})


@pytest.mark.parametrize("name", ["strict", "disabled", "queue_records", "linger", "spool"])
def test_blank_text_counts_as_not_given(name: str) -> None:
    assert getattr(Settings.from_mapping({name: " "}), name) == getattr(Settings(), name)


def test_none_from_an_environment_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_DISABLED", "1")
    monkeypatch.setenv("SESSIONSIGHT_SPOOL", "sqlite:///spool.db")
    settings = Settings.from_mapping({"SPOOL": None, "DISABLED": None})
    assert (settings.disabled, settings.spool) == (True, "sqlite:///spool.db")


def test_an_option_in_two_spellings_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="strict is given twice"):
        Settings.from_mapping({"STRICT": True, "strict": False})


@pytest.mark.parametrize("name", ["SIGNAL_API_KEY", "signal_api_key", "SIGNAL_API_KEY_FILE"])
def test_an_environment_variable_as_an_option_is_rejected_with_a_hint(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r'is the name of an environment variable; .*destinations = \{"signal": \{"api_key":'
    ):
        Settings.from_mapping({name: "k"})


# --- Disabled ------------------------------------------------------------------------------------------

WITHOUT_KEYS: dict[str, Any] = {
    "sessionsight": {"secret_api_key": None, "property_id": ""},
    "signal": {"api_key": " ", "endpoint": None},
    "saytics": {"secret_key": {"file": None}},
    "analyse": {},
    "analyse_eu": {"vendor": "analyse", "public_key": None},
    "console": None,
}


@pytest.mark.parametrize("disabled", [True, "1", "variable"])
def test_disabled_needs_no_keys_and_keeps_the_names(disabled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"DESTINATIONS": WITHOUT_KEYS, "PROXY": None, "CONSENT": ""}
    if disabled == "variable":
        monkeypatch.setenv("SESSIONSIGHT_DISABLED", "true")
    else:
        options["DISABLED"] = disabled
    settings = Settings.from_mapping(options)
    assert settings.disabled
    assert [destination.name for destination in settings.destinations] == list(WITHOUT_KEYS)
    client = Client(settings)
    client.analytics.capture("x", user_id="ada", destinations=["analyse_eu"])
    assert client.stats().rejected == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"STRCT": None}, "unknown option 'STRCT'"),
        ({"DESTINATIONS": {"signl": {}}}, "unknown option 'signl'; did you mean 'signal'"),
        ({"DESTINATIONS": {"signal": {"apikey": None}}}, "unknown option 'apikey'; did you mean 'api_key'"),
        ({"DESTINATIONS": {"eu": {"vendor": "signl"}}}, "unknown vendor 'signl'"),
        ({"DESTINATIONS": {"analyse": {"batch_size": "many"}}}, "batch_size must be "),
        ({"FLUSH": "now"}, "flush must be one of"),
    ],
)
def test_an_invalid_name_or_value_is_rejected_even_if_disabled(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_mapping({"DISABLED": True, **options})


def test_keys_are_required_unless_disabled() -> None:
    for name, options in WITHOUT_KEYS.items():
        if name != "console":
            with pytest.raises(ConfigurationError, match=r"is missing or blank|must be a path"):
                Settings.from_mapping({"DISABLED": "0", "DESTINATIONS": {name: options}})
