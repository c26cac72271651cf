"""Wrong arguments: an error that names them in strict mode, a log line in production, never a TypeError."""

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sessionsight
from sessionsight import (
    Analytics,
    CaptureError,
    Client,
    InvalidEventError,
    InvalidGoalError,
    SessionSightIds,
    Settings,
    TrackingContext,
)
from sessionsight.capture import signatures
from sessionsight.capture.analytics import Goals
from sessionsight.capture.current import set_default_client
from tests.core.box import BoxDestination, Recorder

METHODS: dict[str, Callable[[Analytics], Callable[..., Any]]] = {
    **{
        name: lambda analytics, name=name: getattr(analytics, name)  # type: ignore[misc]
        for name in (
            "capture",
            "identify",
            "alias",
            "group",
            "set_person_properties",
            "set_person_properties_once",
            "tag",
            "only",
        )
    },
    **{
        name: lambda analytics, name=name: getattr(analytics.goals, name)  # type: ignore[misc]
        for name in ("increment", "decrement")
    },
}

WRONG: list[tuple[Callable[[Any], object], type[CaptureError], str]] = [
    (lambda a: a.capture("x", using="nodb"), InvalidEventError, "there is no database 'nodb'"),
    (lambda a: a.capture(), InvalidEventError, r"capture\(\): event is missing"),
    (lambda a: a.capture(properties={}), InvalidEventError, r"capture\(\): event is missing"),
    (
        lambda a: a.capture(name="x"),
        InvalidEventError,
        r"capture\(\): event is missing; unknown argument 'name'; known are anonymous_id, .*, event, groups",
    ),
    (
        lambda a: a.capture("x", {"a": 1}, "u1"),
        InvalidEventError,
        r"capture\(\): takes at most 2 arguments by position, not 3; properties go into a mapping",
    ),
    (lambda a: a.capture("x", None, None), InvalidEventError, "takes at most 2 arguments by position, not 3"),
    (lambda a: a.capture("x", {}, note=1), InvalidEventError, "unknown argument 'note'; known are"),
    (lambda a: a.capture("x", group={}), InvalidEventError, "unknown argument 'group'; did you mean 'groups'"),
    (lambda a: a.capture("x", propertys={}), InvalidEventError, "did you mean 'properties'"),
    (lambda a: a.capture("x", self=1), InvalidEventError, "unknown argument 'self'"),
    (lambda a: a.capture("u1", event="x"), InvalidEventError, r"capture\(\): event is given twice"),
    (lambda a: a.capture("x", {}, properties={}), InvalidEventError, "properties is given twice"),
    (lambda a: a.identify("u1", {}, "more"), InvalidEventError, r"identify\(\): takes at most 2 arguments by position"),
    (lambda a: a.identify("u1", user_id="u2"), InvalidEventError, "user_id is given twice"),
    (lambda a: a.identify("u1", plan="pro"), InvalidEventError, "unknown argument 'plan'.*traits go into a mapping"),
    (lambda a: a.identify("u1", trait={}), InvalidEventError, "unknown argument 'trait'; did you mean 'traits'"),
    (lambda a: a.alias(), InvalidEventError, r"alias\(\): alias is missing"),
    (lambda a: a.alias("a", "b"), InvalidEventError, "takes at most 1 arguments by position, not 2"),
    (lambda a: a.group(), InvalidEventError, r"group\(\): group_type is missing; group_key is missing"),
    (lambda a: a.group("company"), InvalidEventError, r"group\(\): group_key is missing"),
    (lambda a: a.group("company", groupkey="x"), InvalidEventError, "did you mean 'group_key'"),
    (lambda a: a.set_person_properties(), InvalidEventError, r"set_person_properties\(\): properties is missing"),
    (lambda a: a.set_person_properties(plan="pro"), InvalidEventError, "unknown argument 'plan'"),
    (lambda a: a.set_person_properties_once(), InvalidEventError, "properties is missing"),
    (lambda a: a.tag("experiment", "b"), InvalidEventError, r"tag\(\): .*properties go by keyword, such as plan='pro'"),
    (lambda a: a.tag({"experiment": "b"}), InvalidEventError, "properties go by keyword"),
    (lambda a: a.only(), InvalidEventError, "needs the name of a destination"),
    (lambda a: a.only(destinations=["box"]), InvalidEventError, "names of destinations go by position"),
    (lambda a: a.only(["box"]), InvalidEventError, "unknown destination a list"),
    (lambda a: a.goals.increment(), InvalidGoalError, r"increment\(\): goal_id is missing"),
    (lambda a: a.goals.increment(amount=5), InvalidGoalError, "goal_id is missing"),
    (lambda a: a.goals.increment("g", 5, "k"), InvalidGoalError, "takes at most 2 arguments by position, not 3"),
    (lambda a: a.goals.increment("g", 5, amount=5), InvalidGoalError, "amount is given twice"),
    (lambda a: a.goals.increment("g", amont=5), InvalidGoalError, "unknown argument 'amont'; did you mean 'amount'"),
    (lambda a: a.goals.increment("g", quantity=2), InvalidGoalError, "unknown argument 'quantity'; .*metadata goes"),
    (lambda a: a.goals.decrement("g", user_id="u"), InvalidGoalError, r"decrement\(\): unknown argument 'user_id'"),
    (lambda a: a.goals.decrement("g", timestamp=None), InvalidGoalError, "unknown argument 'timestamp'"),
]
IDS = [str(number) for number in range(len(WRONG))]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=IDS)
def test_wrong_arguments_raise_in_strict_mode(
    recorder: Recorder, call: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(recorder.client.analytics)
    assert recorder.records() == []


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=IDS)
def test_wrong_arguments_are_logged_with_the_callers_line_and_counted_in_production(
    lenient: Recorder, caplog: pytest.LogCaptureFixture, call: Any, error: type[Exception], message: str
) -> None:
    call(lenient.client.analytics)
    assert lenient.records() == []
    assert lenient.client.stats().rejected == 1
    [logged] = caplog.records
    assert logged.levelno == logging.WARNING
    assert re.match(f"{re.escape(__file__)}:\\d+: .*{message}.*; nothing was captured$", logged.getMessage())


SPOILED: list[tuple[Callable[[Any], object], str]] = [
    (lambda a: a.flush("soon"), r"flush\(\): timeout must be a number of seconds, not 'soon'"),
    (lambda a: a.flush(seconds=5), r"flush\(\): unknown argument 'seconds'; .*timeout"),
    (lambda a: a.discard("x"), r"discard\(\): takes at most 0 arguments by position, not 1"),
    (lambda a: asyncio.run(a.aflush(1, 2)), r"aflush\(\): takes at most 1 arguments by position"),
]


@pytest.mark.parametrize(("call", "message"), SPOILED, ids=["a_text", "unknown", "one_too_many", "async"])
def test_wrong_arguments_of_flush_and_discard_are_logged_and_left_out(
    recorder: Recorder,
    lenient: Recorder,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[Any], object],
    message: str,
) -> None:
    with pytest.raises(InvalidEventError, match=message):
        call(recorder.client.analytics)
    call(lenient.client.analytics)
    [logged] = caplog.records
    assert re.search(message, logged.getMessage())


def test_after_wrong_arguments_to_only_nothing_goes_where_it_must_not(lenient: Recorder) -> None:
    lenient.client.analytics.only(destinations=["signal"]).capture("x")  # type: ignore[call-arg]
    assert lenient.records() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.capture("x", {"a": 1}, groups={"company": "c"}, user_id="u"),
        lambda a: a.capture("x", properties={"a": 1}, groups={"company": "c"}, user_id="u"),
        lambda a: a.capture("x", None, properties={"a": 1}, groups={"company": "c"}, user_id="u"),
        lambda a: a.capture(event="x", properties={"a": 1}, groups={"company": "c"}, user_id="u"),
        lambda a: a.capture(user_id="u", groups={"company": "c"}, properties={"a": 1}, event="x"),
    ],
    ids=["positional", "keyword", "none_and_keyword", "all_keyword", "other_order"],
)
def test_an_event_may_be_given_by_position_or_by_keyword(recorder: Recorder, call: Callable[[Any], object]) -> None:
    call(recorder.client.analytics)
    assert recorder.events() == {"x": {"a": 1}}
    [record] = recorder.records()
    assert (record.user_id, record.groups) == ("u", {"company": "c"})  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "positional", "keyword"),
    [
        ("capture", ("x",), {"event": "x"}),
        ("identify", ("u", {"plan": "pro"}), {"user_id": "u", "traits": {"plan": "pro"}}),
        ("identify", (None, {"plan": "pro"}), {"traits": {"plan": "pro"}}),
        ("alias", ("a",), {"alias": "a"}),
        ("group", ("company", 7, {"a": 1}), {"properties": {"a": 1}, "group_key": 7, "group_type": "company"}),
        ("set_person_properties", ({"a": 1},), {"properties": {"a": 1}}),
        ("set_person_properties_once", ({"a": 1},), {"properties": {"a": 1}}),
        ("increment", ("g", 5), {"amount": 5, "goal_id": "g"}),
        ("decrement", ("g", 5), {"goal_id": "g", "amount": 5}),
    ],
)
def test_whatever_goes_by_position_goes_by_keyword_too(
    recorder: Recorder, method: str, positional: tuple[Any, ...], keyword: dict[str, Any]
) -> None:
    call = METHODS[method](recorder.client.bind(user_id="bound"))
    call(*positional)
    call(**keyword)
    for cut in range(1, len(positional)):
        call(*positional[:cut], **{name: value for name, value in keyword.items() if value not in positional[:cut]})
    records = recorder.records()
    assert len(records) == 1 + len(positional)
    ours = [{n: getattr(r, n) for n in r.__struct_fields__ if n not in {"time", "random"}} for r in records]
    assert all(one == ours[0] for one in ours)


def test_tags_may_have_any_name(recorder: Recorder) -> None:
    analytics = recorder.client.analytics
    analytics.tag(**{"self": 1, "given": 2, "properties": 3, "a b": 4})
    analytics.capture("x")
    assert recorder.events() == {"x": {"self": 1, "given": 2, "properties": 3, "a b": 4}}


class Ambiguous(ValueError):
    pass


class Awkward:
    """A value that answers no comparison, as arrays do."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise Ambiguous

    def __bool__(self) -> bool:
        raise Ambiguous


_lenient = Client(Settings(destinations=(BoxDestination(),), disabled=True))
_strict = Client(Settings(destinations=(BoxDestination(),), disabled=True, strict=True))
values = st.one_of(st.none(), st.text(max_size=3), st.integers(), st.just({}), st.just({"a": 1}), st.builds(Awkward))
names = st.sampled_from(
    [*signatures.capture.options, "event", "properties", "traits", "goal_id", "amount", "x", "self"]
)


@given(st.sampled_from(sorted(METHODS)), st.lists(values, max_size=4), st.dictionaries(names, values, max_size=4))
def test_no_arguments_whatever_raise_anything_of_pythons_own(
    method: str, arguments: list[Any], options: dict[str, Any]
) -> None:
    METHODS[method](_lenient.analytics)(*arguments, **options)
    # An error of a value's own is passed on in strict mode, like an internal error.
    with suppress(CaptureError, Ambiguous):
        METHODS[method](_strict.analytics)(*arguments, **options)


def test_the_signatures_are_those_that_are_documented() -> None:
    for kind in (Analytics, Goals):
        for name in METHODS.keys() & vars(kind).keys():
            method = getattr(kind, name)
            declared = inspect.signature(method)
            assert "given" not in declared.parameters
            assert method.__name__ == name
            assert method.__doc__
    assert list(inspect.signature(Analytics.capture).parameters) == ["self", "event", "properties", "groups", "options"]


# --- outside requests ---------------------------------------------------------------------------------

CONTEXT = TrackingContext(sessionsight=SessionSightIds(session_id="session-1"), user_id="user_1")
OUTSIDE: list[tuple[Callable[[Any], Any], str]] = [
    (lambda here: here.bind(CONTEXT, userid="user_2"), r"bind\(\): unknown argument 'userid'; did you mean 'user_id'"),
    (
        lambda here: here.bind(CONTEXT, "user_2"),
        r"bind\(\): takes at most 1 arguments by position, not 2; pass ids as keyword",
    ),
    (lambda here: here.bind(CONTEXT, context=CONTEXT), r"bind\(\): context is given twice"),
    (lambda here: here.scope(CONTEXT, userid="user_2"), r"scope\(\): unknown argument 'userid'"),
    (lambda here: here.scope(CONTEXT, "user_2", flush=False), r"scope\(\): takes at most 1 arguments by position"),
    (lambda here: here.for_request("ss_sid=session-1", user_id="user_2"), r"for_request\(\): unknown argument 'user_"),
]


@pytest.fixture(params=["client", "module"])
def here(request: pytest.FixtureRequest) -> Iterator[Callable[[Recorder], Any]]:
    """Where the functions are called: on the client, or as those of the package."""

    def choose(recorder: Recorder) -> Any:
        set_default_client(recorder.client)
        return recorder.client if request.param == "client" else sessionsight

    yield choose
    set_default_client(None)


@pytest.mark.parametrize("case", OUTSIDE, ids=[str(number) for number in range(len(OUTSIDE))])
def test_wrong_arguments_outside_requests_cost_the_arguments_and_not_the_records(
    lenient: Recorder, recorder: Recorder, here: Any, case: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call, message = case
    with pytest.raises(InvalidEventError, match=message):
        call(here(recorder))
    caplog.clear()
    made = call(here(lenient))
    with made if isinstance(made, AbstractContextManager) else nullcontext(made) as analytics:
        analytics.capture("x")
    [entry] = lenient.entries()
    assert entry.context.sessionsight.session_id == "session-1"
    assert entry.user_id in {"user_1", None}
    assert re.search(f"^{re.escape(__file__)}:\\d+: {message}", caplog.messages[0])


def test_without_a_request_there_are_no_ids(lenient: Recorder, here: Any) -> None:
    here(lenient).for_request().capture("x")
    assert lenient.entries()[0].context == TrackingContext()


def test_wrong_arguments_beside_a_refusal_leave_it_one(lenient: Recorder, here: Any) -> None:
    here(lenient).bind(TrackingContext(opted_out=True), "user_1").capture("x", user_id="user_1")
    here(lenient).bind(userid="user_1", context=TrackingContext(opted_out=True)).capture("y", user_id="user_1")
    assert lenient.dropped() == {"consent": 2}
