import logging
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sessionsight import InvalidEventError, InvalidGoalError, InvalidPropertiesError
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import Goal
from tests.core.box import Recorder


def goals(recorder: Recorder) -> list[Goal]:
    return [record for record in recorder.records() if isinstance(record, Goal)]


def test_an_increment_and_a_decrement_keep_what_they_were_given(recorder: Recorder) -> None:
    analytics = recorder.client.analytics
    analytics.goals.increment("user-signups")
    analytics.goals.decrement(
        "monthly-revenue",
        Decimal("49.90"),
        metadata={"plan": "pro", "seats": 5},
        session_id="session-1",
        key="refund:1",
        destinations=["box"],
    )
    first, second = goals(recorder)
    assert (first.goal_id, first.direction, first.amount, first.session_id) == ("user-signups", "increment", 1, None)
    assert (first.properties, first.key, first.destinations) == (b"{}", None, None)
    assert (second.goal_id, second.direction, second.amount) == ("monthly-revenue", "decrement", Decimal("49.90"))
    assert (second.session_id, second.key, second.destinations) == ("session-1", "refund:1", frozenset({"box"}))
    assert decode(second.properties) == {"plan": "pro", "seats": 5}


def test_an_amount_of_none_counts_once(recorder: Recorder) -> None:
    recorder.client.analytics.goals.increment("user-signups", None)
    assert goals(recorder)[0].amount == 1


def test_an_empty_session_id_leaves_the_requests(recorder: Recorder) -> None:
    recorder.client.analytics.goals.increment("user-signups", session_id="")
    assert goals(recorder)[0].session_id is None


def test_ids_are_kept_word_for_word(recorder: Recorder) -> None:
    recorder.client.analytics.goals.increment(" user-signups ", session_id=" s1 ")
    assert (goals(recorder)[0].goal_id, goals(recorder)[0].session_id) == (" user-signups ", " s1 ")


@pytest.mark.parametrize("method", ["increment", "decrement"])
@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("",), {}, InvalidGoalError),
        (("g", -1), {}, InvalidGoalError),
        (("g",), {"session_id": " "}, InvalidGoalError),
        (("\ufeff",), {}, InvalidGoalError),
        (("g",), {"session_id": "\ufeff"}, InvalidGoalError),
        (("g",), {"metadata": {"a": object}, "key": 5}, InvalidEventError),
    ],
)
def test_a_wrong_goal_raises_in_strict_mode_and_is_counted_in_production(
    make_recorder: Callable[..., Recorder],
    method: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    recorder, lenient = make_recorder(strict=True), make_recorder()
    with pytest.raises(error):
        getattr(recorder.client.analytics.goals, method)(*arguments, **options)
    getattr(lenient.client.analytics.goals, method)(*arguments, **options)
    assert recorder.records() == lenient.records() == []
    assert lenient.client.stats().rejected == 1


@pytest.mark.parametrize("metadata", [["a"], "text", 5, {"a"}, []])
def test_metadata_that_is_not_a_mapping_is_left_out_and_the_goal_is_sent(
    make_recorder: Callable[..., Recorder], metadata: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder()
    with caplog.at_level(logging.WARNING):
        recorder.client.analytics.goals.increment("user-signups", metadata=metadata)
    assert [goal.properties for goal in goals(recorder)] == [b"{}"]
    assert recorder.client.stats().rejected == 0
    assert "metadata must be a mapping of names to values" in caplog.text
    with pytest.raises(InvalidPropertiesError, match="metadata must be a mapping"):
        make_recorder(strict=True).client.analytics.goals.increment("user-signups", metadata=metadata)


def test_numbers_that_json_lacks_are_the_texts_that_the_vendors_sdk_sends(recorder: Recorder) -> None:
    metadata = {"a": math.nan, "b": -math.inf, "c": Decimal("Infinity"), "d": [math.nan, None], "e": 1.5}
    recorder.client.analytics.goals.increment("user-signups", metadata=metadata)
    assert goals(recorder)[0].properties == b'{"a":"NaN","b":"-Infinity","c":"Infinity","d":["NaN",null],"e":1.5}'


@pytest.mark.parametrize("session_id", ["\x1c", "\x85"])
def test_what_is_not_white_in_javascript_is_not_blank(recorder: Recorder, session_id: str) -> None:
    recorder.client.analytics.goals.increment(session_id, session_id=session_id)
    assert (goals(recorder)[0].goal_id, goals(recorder)[0].session_id) == (session_id, session_id)
