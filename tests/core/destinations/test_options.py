"""Options are checked when a destination is made, with a message that says what to do."""

import json
from typing import Any

import pytest

from sessionsight.destinations import Saytics, SessionSight, Signal, from_options
from sessionsight.destinations.base import Limits, VendorDestination, base_url, resolve_secret
from sessionsight.destinations.options import type_error
from sessionsight.errors import ConfigurationError
from tests.conformance.facts.fact import KEYS, destination
from tests.core.destinations.factories import EVERYBODY, NOW, USER, VISITOR, entry, event, goal, identify


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("signal", {"api_key": ""}, "destination 'signal': api_key is missing or blank"),
        ("signal", {"api_key": "  "}, "destination 'signal': api_key is missing or blank"),
        ("signal", {"api_key": None}, "destination 'signal': api_key is missing or blank"),
        ("signal", {"api_key": 7}, "api_key must be a string or a function that returns one, not int"),
        ("sessionsight", {"property_id": ""}, "property_id is missing or blank"),
        ("sessionsight", {"property_id": 7}, "property_id must be str, not 7"),
        ("sessionsight", {"metadata_over_limit": "cut"}, "must be one of 'truncate', 'keep', not 'cut'"),
        (
            "sessionsight",
            {"secret_api_key": "key_\u4e2d"},
            "'sessionsight': secret_api_key contains a character that HTTP",
        ),
        (
            "sessionsight",
            {"secret_api_key": "a\nb"},
            "secret_api_key contains a character that HTTP headers cannot contain",
        ),
        ("saytics", {"secret_key": "key_\u20ac"}, "secret_key contains a character that HTTP headers cannot contain"),
        ("signal", {"api_key": "key_\x7f"}, "api_key contains a character that HTTP headers cannot contain"),
        ("signal", {"api_key": "a\x00b", "api_key_in": "x-api-key"}, "api_key contains a character that HTTP headers"),
        ("signal", {"batch_size": 0}, "batch_size must be int >= 1, not 0"),
        ("signal", {"batch_size": True}, "batch_size must be int, not True"),
        ("signal", {"compression": "yes"}, "compression must be bool, not 'yes'"),
        ("signal", {"ingest_path": "v1"}, "ingest_path must start with a slash, not 'v1'"),
        ("signal", {"distinct_id": "browser"}, "distinct_id must be one of 'user', 'header', not 'browser'"),
        ("signal", {"api_key_in": "query"}, "api_key_in must be one of 'authorization', 'x-api-key', 'body'"),
        ("saytics", {"plan": "gold"}, "plan must be one of 'free', 'starter', 'pro', 'enterprise', not 'gold'"),
        ("saytics", {"plan": "enterprise"}, "set batch_size and calls_per_minute"),
        ("saytics", {"plan": "enterprise", "batch_size": 10}, "set batch_size and calls_per_minute"),
        ("saytics", {"batch_size": 1001}, "batch_size must be int <= 1000, not 1001"),
        ("saytics", {"money": "minor"}, "money must be one of 'major', 'keep'"),
        ("saytics", {"max_string": 0}, "max_string must be int >= 1"),
        ("saytics", {"api_url": "http://api.example.com"}, "api_url: 'http://api.example.com' would send keys"),
        ("saytics", {"api_url": "api.example.com"}, "api_url: 'api.example.com' is not an http(s) URL"),
        ("analyse", {"host": "https://user:pass@example.com"}, "host: a URL must not contain a user name"),
        ("analyse", {"host": "https://@example.com"}, "host: a URL must not contain a user name"),
        ("analyse", {"host": "https://example.com/in?site=1"}, "host: a URL must not contain a query or a fragment"),
        ("analyse", {"host": "https://example.com/?"}, "host: a URL must not contain a query or a fragment"),
        ("analyse", {"host": "https://example.com/#top"}, "host: a URL must not contain a query or a fragment"),
        ("analyse", {"host": "https://example.com:https"}, "host: this is not a valid URL"),
        ("analyse", {"host": "https://example.com:70000"}, "host: this is not a valid URL"),
        ("analyse", {"host": "https://[::1"}, "host: this is not a valid URL"),
        ("analyse", {"host": "https://exam ple.com"}, "host: 'https://exam ple.com' is not an http(s) URL"),
        ("analyse", {"host": "https://example.com\n.example.com"}, "is not an http(s) URL"),
        ("analyse", {"host": None}, "host must be str, not None"),
        ("analyse", {"profile_traits": "$"}, "profile_traits must be one of 'keep', 'dollar'"),
    ],
)
def test_a_wrong_value_is_named_together_with_what_would_work(name: str, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        destination(name, options)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", KEYS)
def test_every_required_option_is_asked_for_by_name(name: str) -> None:
    for missing in KEYS[name]:
        if missing == "project_id":
            continue
        options = {option: value for option, value in KEYS[name].items() if option != missing}
        with pytest.raises(ConfigurationError, match=f"{missing} is missing or blank"):
            from_options(name, options)


def test_an_unknown_option_is_an_error_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigurationError, match=r"destination 'saytics': .*'secretKey'; did you mean 'secret_key'\?"):
        from_options("saytics", {"secretKey": "sk_live_1"})


def test_an_unknown_destination_is_an_error_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigurationError, match=r"'sayticks'; did you mean 'saytics'\?"):
        from_options("sayticks", {})


def test_a_secret_of_a_wrong_type_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as raised:
        from_options("saytics", {"secret_key": b"sk_live_1"})
    assert "sk_live_1" not in str(raised.value)


def test_a_subclass_may_have_options_that_only_its_own_code_can_check() -> None:
    class Custom(VendorDestination, frozen=True, kw_only=True):
        name = "custom"
        kinds = frozenset()
        hook: type[Exception] = ValueError

    assert Custom().supports(type(event())) is False
    assert Custom().drop_reason(event(), USER) is None
    with pytest.raises(NotImplementedError, match="Custom must implement build_requests"):
        Custom().build_requests([entry(event())], now=NOW)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://a.example.com", "https://a.example.com"),
        ("https://a.example.com/", "https://a.example.com"),
        ("https://a.example.com/base/", "https://a.example.com/base"),
        ("", "https://default.example.com"),
        ("/", "https://default.example.com"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_loses_its_one_trailing_slash(given: str, url: str) -> None:
    assert base_url(given, default="https://default.example.com/", where="here") == url


@pytest.mark.parametrize("host", ["localhost.example.com", "example.com", "10.0.0.1"])
def test_plain_http_is_for_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigurationError, match="use https"):
        base_url(f"http://{host}", default="https://default.example.com", where="here")


def test_a_key_from_a_file_loses_its_line_end() -> None:
    assert resolve_secret("key\n") == resolve_secret(lambda: " key\n") == "key"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("order_processed", "Order Processed"),
        ("signup", "Signup"),
        ("step_2_done", "Step 2 Done"),
        ("Order Processed", "Order Processed"),
        ("$pageview", "$pageview"),
        ("_private", "_private"),
        ("änderung_bezahlt", "Änderung Bezahlt"),
    ],
)
def test_saytics_may_get_names_in_title_case(name: str, sent: str) -> None:
    for option, expected in (("title_case", sent), ("keep", name)):
        [call] = Saytics(secret_key="k", event_names=option).build_requests([entry(event(name), USER)], now=NOW)  # type: ignore[arg-type]
        assert json.loads(call.body)["event"] == expected


def test_money_without_a_currency_is_noted() -> None:
    record = event("checkout_finished", {"amount": 4900}, standard=True)
    [call] = Saytics(secret_key="k").build_requests([entry(record, USER)], now=NOW)
    [note] = call.warnings
    assert "'checkout_finished' is sent as given, in minor units, because it has no currency" in note


def test_an_unknown_currency_is_noted_by_its_name() -> None:
    record = event("checkout_finished", {"amount": 4900, "currency": "BTC"}, standard=True)
    [call] = Saytics(secret_key="k").build_requests([entry(record, USER)], now=NOW)
    assert "currency 'BTC' is not in ISO 4217" in call.warnings[0]


def test_screened_metadata_is_noted_without_its_value() -> None:
    record = goal("signup", metadata={"order": "1234567890"})
    [call] = SessionSight(secret_api_key="k", property_id="p").build_requests([entry(record, VISITOR)], now=NOW)
    [note] = call.warnings
    assert "metadata 'order' of goal 'signup' looks like a phone number" in note
    assert "1234567890" not in note


def test_a_secret_across_the_cut_of_long_metadata_is_still_seen() -> None:
    record = goal("signup", metadata={"note": "x" * 250 + " 4242424242424242"})
    [call] = SessionSight(secret_api_key="k", property_id="p").build_requests([entry(record, VISITOR)], now=NOW)
    assert b"metadata" not in call.body


def test_an_identification_is_about_the_user_even_where_the_header_goes_first() -> None:
    record = identify({}, user_id="user_2")
    [call] = Signal(api_key="k", distinct_id="header").build_requests([entry(record, EVERYBODY)], now=NOW)
    assert b'"distinctId":"user_2"' in call.body


def test_the_options_in_a_repr_are_those_that_are_used() -> None:
    assert "endpoint='https://signal.example.com'" in repr(Signal(api_key="k", endpoint="https://signal.example.com/"))


@pytest.mark.parametrize("name", ["sessionsight", "saytics", "signal"])
def test_a_key_of_latin_1_can_stand_in_a_header(name: str) -> None:
    vendor = destination(name, {_KEY[name]: "schl\u00fcssel"})
    (call,) = vendor.build_requests([entry(goal() if name == "sessionsight" else event(), EVERYBODY)], now=NOW)
    assert any("schl\u00fcssel" in value for value in call.headers.values())


@pytest.mark.parametrize("name", ["sessionsight", "saytics", "signal"])
def test_a_key_of_a_function_is_checked_at_each_call_and_not_shown(name: str) -> None:
    vendor = destination(name, {_KEY[name]: lambda: "key_\u4e2d"})
    with pytest.raises(ConfigurationError, match="contains a character that HTTP headers cannot contain") as raised:
        vendor.build_requests([entry(goal() if name == "sessionsight" else event(), EVERYBODY)], now=NOW)
    assert "\u4e2d" not in str(raised.value)


def test_a_key_in_the_body_may_hold_anything() -> None:
    destination("analyse", {"public_key": "key_\u4e2d"})
    destination("signal", {"api_key": "key_\u4e2d", "api_key_in": "body"})


_KEY = {"sessionsight": "secret_api_key", "saytics": "secret_key", "signal": "api_key"}


@pytest.mark.parametrize("key", ["", " \n", None])
def test_a_function_that_returns_no_key_is_an_error(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="did not return one"):
        resolve_secret(lambda: key)


def test_a_type_that_msgspec_does_not_know_is_not_checked() -> None:
    assert type_error("anything", int | list[int] | set[int]) is None


def test_a_destination_has_the_usual_limits_unless_it_says_otherwise() -> None:
    class Warehouse(VendorDestination, frozen=True, kw_only=True):
        name: str = "warehouse"
        kinds = frozenset()

    assert Warehouse().limits == Limits()
