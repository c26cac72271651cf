"""Packed or not, a backlog gives back what was put in, in order."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from sessionsight.context import Page, SessionSightIds, SignalIds, TrackingContext
from sessionsight.delivery.spool.backlog import Backlog
from sessionsight.records import Alias, Entry, Event, Goal, Group, Identify, PersonProperties
from tests.core.delivery.kit import event, labels

LATER = 10.0


def filled(number: int, *, since: float = 0.0) -> Backlog:
    backlog = Backlog()
    for at in range(number):
        backlog.append(event(str(at), since=since))
    return backlog


def emptied(backlog: Backlog) -> list[Entry]:
    return [backlog.popleft() for _ in range(len(backlog))]


def test_what_was_packed_comes_out_in_the_order_in_which_it_came_in() -> None:
    backlog = filled(2_000)
    backlog.pack(LATER)
    backlog.append(event("newest", since=LATER))

    assert len(backlog) == 2_001
    assert labels(emptied(backlog)) == [*map(str, range(2_000)), "newest"]


def test_every_kind_of_record_comes_out_as_it_went_in() -> None:
    common: dict[str, Any] = {
        "entropy": b"0123456789",
        "time": 1.5,
        "properties": b'{"a":1}',
        "key": "k",
        "user_id": "user_1",
    }
    context = TrackingContext(
        sessionsight=SessionSightIds(session_id="s-1", visitor_id="v-1"),
        signal=SignalIds(session_id="g", window_id="w", distinct_id="d"),
        user_id="user_2",
        anonymous_id="anon",
        page=Page(url="https://shop.example/a", path="/a", user_agent="Mozilla/5.0"),
    )
    records = [
        Event(name="seen", groups={"company": "acme"}, standard=True, **common),
        Identify(**common),
        PersonProperties(once=True, **common),
        Alias(alias="earlier", **common),
        Group(group_type="company", group_key="acme", **common),
        Goal(goal_id="revenue", direction="decrement", amount=Decimal("49.90"), session_id="s-2", **common),
        Goal(goal_id="revenue", direction="increment", amount=3, destinations=frozenset({"one", "two"}), **common),
    ]
    entries = [Entry(record, context, 1.0) for record in records]
    backlog = Backlog()
    for entry in [*entries, *(event(str(at), since=1.0) for at in range(600))]:
        backlog.append(entry)

    backlog.pack(LATER)

    assert backlog._parcels
    assert emptied(backlog)[: len(entries)] == entries


def test_what_has_just_come_is_left_as_it_is() -> None:
    backlog = filled(2_000, since=LATER - 0.5)

    backlog.pack(LATER)

    assert not backlog._parcels


def test_a_packed_record_takes_a_fraction_of_what_it_did() -> None:
    loose, packed = filled(1_024), filled(1_024)

    packed.pack(LATER)

    assert all(isinstance(parcel, bytes) for parcel in packed._parcels)
    assert sum(map(len, packed._parcels)) * 2 < sum(sys.getsizeof(entry) for entry in emptied(loose))


def test_what_cannot_be_packed_stays_as_it_is() -> None:
    number: Any = 42
    backlog = filled(1_000)
    odd = replace(event("odd", since=0.0), context=TrackingContext(user_id=number))
    backlog.appendleft(odd)
    backlog.append(odd)
    for at in range(1_000):
        backlog.append(event(str(at), since=0.0))

    backlog.pack(LATER)

    assert backlog._parcels
    assert labels(emptied(backlog)) == ["odd", *map(str, range(1_000)), "odd", *map(str, range(1_000))]


class Against(RuleBasedStateMachine):
    """A backlog beside a list."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog()
        self.list: list[Entry] = []
        self.now = 0.0

    @rule(number=st.sampled_from([1, 40, 300]))
    def append(self, number: int) -> None:
        one = event(str(len(self.list)), since=self.now)
        for at in range(number):
            entry = replace(one, since=self.now + at / 1e6)
            self.backlog.append(entry)
            self.list.append(entry)

    @rule()
    def put_back(self) -> None:
        entry = event("back", since=self.now)
        self.backlog.appendleft(entry)
        self.list.insert(0, entry)

    @rule(number=st.sampled_from([1, 40, 300]))
    def take(self, number: int) -> None:
        for _ in range(min(number, len(self.list))):
            assert self.backlog.first() == self.list[0]
            assert self.backlog.popleft() == self.list.pop(0)

    @rule(seconds=st.floats(0, 3))
    def pack(self, seconds: float) -> None:
        self.now += seconds
        self.backlog.pack(self.now)

    @invariant()
    def as_long(self) -> None:
        assert len(self.backlog) == len(self.list)


TestAgainstAList = Against.TestCase
