from __future__ import annotations

from typing import Any

import pytest

from sessionsight.delivery.redaction import redact_secrets
from sessionsight.destinations.base import Action, Verdict
from tests.core.box import BoxDestination
from tests.core.delivery.kit import Vendor

KEY = "sk_very_secret"


def said(message: str, key: Any = KEY) -> str:
    return redact_secrets(Verdict(action=Action.PAUSE, message=message), Vendor("http://127.0.0.1:9", key=key)).message


def test_a_key_is_redacted_anywhere_in_a_message() -> None:
    assert said(f"no {KEY} here, and {KEY}s are not welcome") == "no *** here, and ***s are not welcome"
    assert said("no such key") == "no such key"


def test_a_key_from_a_callable_is_redacted_as_well() -> None:
    assert said(f"no {KEY} here", key=lambda: f"{KEY}\n") == "no *** here"


def test_messages_about_single_records_are_redacted() -> None:
    verdict = Verdict(action=Action.DELIVERED, rejected={3: f"{KEY} may not do this"})

    assert redact_secrets(verdict, Vendor("http://127.0.0.1:9")).rejected == {3: "*** may not do this"}


def test_a_short_placeholder_is_not_redacted_because_it_may_be_a_word() -> None:
    assert said("the key is wrong", key="key") == "the key is wrong"


@pytest.mark.parametrize("error", [RuntimeError("vault"), SystemExit(1)])
def test_a_key_that_cannot_be_read_is_not_redacted(error: BaseException) -> None:
    def fail() -> str:
        raise error

    assert said("not today", key=fail) == "not today"


def test_messages_of_a_destination_without_keys_are_unchanged() -> None:
    verdict = Verdict(action=Action.PAUSE, message="all of it")

    assert redact_secrets(verdict, BoxDestination()) == verdict
