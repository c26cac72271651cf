from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.errors import ConfigurationError
from sessionsight.request.consent import ConsentPolicy, consents, redact
from sessionsight.request.raw import RequestData


@pytest.mark.parametrize(
    ("policy", "headers", "captured"),
    [
        ("all", {"sec-gpc": "1", "dnt": "1"}, True),
        ("gpc", {}, True),
        ("gpc", {"sec-gpc": "1"}, False),
        ("gpc", {"sec-gpc": " 1 "}, False),
        ("gpc", {"sec-gpc": "0"}, True),
        ("gpc", {"dnt": "1"}, True),
        ("gpc+dnt", {"dnt": "1"}, False),
        ("gpc+dnt", {"sec-gpc": "1"}, False),
        ("gpc+dnt", {"dnt": "0"}, True),
    ],
)
def test_a_policy_obeys_the_signals_it_names(policy: ConsentPolicy, headers: dict[str, str], *, captured: bool) -> None:
    assert consents(policy, RequestData(headers=headers)) is captured


def test_a_function_decides() -> None:
    def policy(data: RequestData) -> bool:
        return "consent=yes" in data.headers.get("cookie", "")

    assert consents(policy, RequestData(headers={"cookie": "consent=yes"}))
    assert not consents(policy, RequestData())


@pytest.mark.parametrize("value", ["no", "0", "false", "yes"])
def test_text_is_not_accepted_as_consent(value: str) -> None:
    def policy(data: RequestData) -> Any:
        return data.headers.get("x-consent")

    with pytest.raises(ConfigurationError, match="must return True or False"):
        consents(policy, RequestData(headers={"x-consent": value}))
    assert not consents(policy, RequestData(headers={"x-consent": ""}))


def test_redacting_replaces_names_in_any_case_at_any_depth() -> None:
    value = {"Card": {"PIN": "1", "last4": "4242"}, "list": [{"pin": [1, 2]}], "straße": "x", "pinned": 1}
    assert redact(value, frozenset({"pin", "strasse"})) == {
        "Card": {"PIN": "[redacted]", "last4": "4242"},
        "list": [{"pin": "[redacted]"}],
        "straße": "[redacted]",
        "pinned": 1,
    }


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["pin", "PIN", "other"]), inner),
)


@given(json)
def test_nested_values_of_a_redacted_name_are_removed(value: Any) -> None:
    def check(item: Any) -> None:
        for name, member in item.items() if isinstance(item, dict) else ():
            assert name == "other" or member == "[redacted]"
            check(member)
        for member in item if isinstance(item, list) else ():
            check(member)

    check(redact(value, frozenset({"pin"})))


@given(json)
def test_redacting_no_names_changes_nothing(value: Any) -> None:
    assert redact(value, frozenset()) == value
