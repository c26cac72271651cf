import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionsight.inspector.filters import Filter
from sessionsight.inspector.model import InspectedRecord
from sessionsight.inspector.store import Store
from tests.core.inspector.values import NOW, goal, received, record


def ids(records: list[InspectedRecord]) -> list[int]:
    return [record.id for record in records]


def test_ids_are_given_in_order_and_never_again(store: Store) -> None:
    assert ids(store.add(received(), [record(), record()])) == [1, 2]
    assert store.clear() == 2
    assert ids(store.add(received(), [record()])) == [3]
    assert store.newest() == 3


def test_what_is_added_can_be_read_again(store: Store) -> None:
    headers = [("host", "localhost"), ("accept", "*/*"), ("accept", "a/b")]
    request = received(headers=headers, body=b"\x00\xff", reply=b"{}", query="a=1", latency_ms=1.5, fault="fail 500")
    whole = record(
        accepted=False,
        errors=["event: is required"],
        warnings=["x"],
        session_id="s",
        window_id="w",
        visitor_id="v",
        user_id="u",
        amount=1.5,
        properties={"a": [1, None, {"b": 10**30}]},
        raw={"event": "\u0000é"},
        page_url="/",
    )
    (added,) = store.add(request, [whole])
    assert store.record(added.id) == added
    kept = store.request(added.request_id)
    assert kept is not None
    assert (kept.headers, kept.body, kept.reply, kept.fault) == (headers, b"\x00\xff", b"{}", "fail 500")
    assert (added.errors, added.properties, added.raw) == (whole.errors, whole.properties, whole.raw)


def test_what_is_not_there_is_none(store: Store) -> None:
    assert (store.record(1), store.request(1), store.siblings(1), store.session("s")) == (None, None, [], [])
    assert (store.goals(), store.goal("g"), store.goal_series("g"), store.sessions()) == ([], None, [], [])
    assert (store.newest(), store.counts().total) == (0, 0)


def test_pages_go_back_from_the_newest(store: Store) -> None:
    for _ in range(5):
        store.add(received(), [record()])
    first = store.records(Filter(), limit=2)
    assert (ids(first.records), first.next) == ([5, 4], 4)
    second = store.records(Filter(), limit=2, before=first.next)
    assert (ids(second.records), second.next) == ([3, 2], 2)
    third = store.records(Filter(), limit=2, before=second.next)
    assert (ids(third.records), third.next) == ([1], None)


def test_siblings_came_in_one_request(store: Store) -> None:
    store.add(received(), [record()])
    added = store.add(received(), [record(), record()])
    assert store.siblings(added[0].request_id) == added


def test_the_oldest_give_way() -> None:
    with Store(max_records=3) as store:
        for _ in range(4):
            store.add(received(), [record(), record()])
        assert ids(store.records(Filter()).records) == [8, 7, 6]
        assert [store.request(number) is None for number in (1, 2, 3, 4)] == [True, True, False, False]


def test_requests_without_records_give_way_as_well() -> None:
    with Store(max_records=3) as store:
        for _ in range(5):
            store.add(received())
        assert [store.request(number) is None for number in range(1, 6)] == [True, True, False, False, False]


def test_large_requests_give_way_with_their_records() -> None:
    with Store(max_bytes=6000) as store:
        for _ in range(4):
            store.add(received(body=b" " * 1000), [record()])
        assert ids(store.records(Filter()).records) == [4, 3]
        assert store.request(2) is None


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "inspector.db"
    with Store(path) as store:
        store.add(received(body=b"x"), [record()])
    with Store(path, max_records=1) as store:
        assert store.counts().total == 1
        assert ids(store.add(received(), [record()])) == [2]
        assert ids(store.records(Filter()).records) == [2]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE records (id); INSERT INTO records VALUES (7);")
    with pytest.raises(sqlite3.DatabaseError, match="another program"):
        Store(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM records").fetchall() == [(7,)]


def test_tables_of_another_version_are_created_again(tmp_path: Path) -> None:
    path = tmp_path / "inspector.db"
    with Store(path) as store:
        store.add(received(), [record()])
        store._db.execute("PRAGMA user_version = 999")
    with Store(path) as store:
        assert store.counts().total == 0


def test_a_session_has_what_other_vendors_say_of_its_people_in_its_time(store: Store) -> None:
    def at(seconds: float, **changes: Any) -> InspectedRecord:
        (added,) = store.add(received(), [record(occurred_at=NOW + seconds, **changes)])
        return added

    own = [at(60, session_id="s", user_id="u"), at(0, session_id="s", visitor_id="v", side="browser")]
    tied = [at(30, vendor="saytics", user_id="u"), at(10, vendor="analyse", visitor_id="v", session_id="analyse-1")]
    swapped = at(20, vendor="saytics", user_id="v")
    at(30, vendor="saytics", user_id="somebody else")
    at(300, vendor="saytics", user_id="u")
    at(30, session_id="another", user_id="u")
    assert store.session("s") == [own[1], tied[1], swapped, tied[0], own[0]]


def test_sessions_are_summed_up_newest_first(store: Store) -> None:
    store.add(received(), [record(session_id="old", occurred_at=NOW - 5)])
    first = record(session_id="s", visitor_id="v", window_id="w1", side="browser", occurred_at=NOW + 1)
    later = record(session_id="s", user_id="u", window_id="w2", accepted=False, errors=["x"], occurred_at=NOW + 9)
    store.add(received(), [first, later, record()])
    newest, oldest = store.sessions()
    assert (newest.session_id, newest.first, newest.last, newest.count, newest.refused) == ("s", NOW + 1, NOW + 9, 2, 1)
    assert (newest.sides, newest.vendors) == ({"browser": 1, "server": 1}, {"signal": 2})
    assert (newest.user_id, newest.visitor_id, newest.windows) == ("u", "v", ["w1", "w2"])
    assert store.sessions(limit=1) == [newest]
    assert store.sessions(before=newest.cursor) == [oldest]


def test_goals_add_up(store: Store) -> None:
    amounts = (49.9, 0.1, -49.9)
    store.add(received(), [goal(amount, occurred_at=NOW + n) for n, amount in enumerate(amounts)])
    store.add(received(), [goal(1000, accepted=False, errors=["x"]), goal(1, name="signups", occurred_at=NOW - 1)])
    revenue, signups = store.goals()
    assert (revenue.goal_id, revenue.total, revenue.count, revenue.last) == ("revenue", 0.1, 1, NOW + 2)
    assert (revenue.increments, revenue.decrements) == (2, 1)
    assert signups.goal_id == "signups"
    assert store.goal("revenue") == revenue


@pytest.mark.parametrize(
    ("amounts", "money"), [((1, 1, -1), False), ((12, -12), True), ((1, 49), True), ((0.5,), True)]
)
def test_a_goal_whose_every_step_is_one_only_counts(store: Store, amounts: tuple[float, ...], money: bool) -> None:
    store.add(received(), [goal(amount) for amount in amounts])
    assert [one.money for one in store.goals()] == [money]


def test_a_goals_total_over_time(store: Store) -> None:
    store.add(received(), [goal(amount, occurred_at=NOW + at) for at, amount in ((0, 1), (1, 2), (10, 4))])
    assert store.goal_series("revenue", buckets=5) == [
        (NOW + 2, 3),
        (NOW + 4, 3),
        (NOW + 6, 3),
        (NOW + 8, 3),
        (NOW + 10, 7),
    ]
    store.add(received(), [goal(5, name="once"), goal(6, name="once")])
    assert store.goal_series("once") == [(NOW, 11)]


def test_health_tells_verdicts_statuses_latencies_and_minutes(store: Store) -> None:
    for latency in range(1, 101):
        store.add(received(latency_ms=float(latency), status=200 if latency > 1 else 500))
    store.add(received(vendor=None, status=404))
    minutes = [record(received_at=NOW - 60 * 59), record(), record(received_at=NOW - 3600), record(accepted=False)]
    store.add(received(), minutes)
    signal = next(one for one in store.health(now=NOW) if one.vendor == "signal")
    assert (signal.accepted, signal.refused, signal.requests) == (3, 1, 101)
    assert signal.statuses == {"200": 100, "500": 1}
    assert (signal.latency_p50, signal.latency_p95) == (50, 95)
    assert (signal.accepted_series, signal.refused_series) == ([1, *[0] * 58, 1], [*[0] * 59, 1])
    silent = next(one for one in store.health(now=NOW) if one.vendor == "saytics")
    assert (silent.requests, silent.latency_p50, silent.latency_p95) == (0, None, None)


def test_counts_name_every_vendor_and_kind(store: Store) -> None:
    store.add(received(), [record(), goal(1), record(accepted=False)])
    counts = store.counts()
    assert (counts.total, counts.accepted, counts.refused) == (3, 2, 1)
    assert counts.vendors == {"sessionsight": 1, "signal": 2, "saytics": 0, "analyse": 0}
    assert counts.kinds == {"event": 2, "identify": 0, "goal": 1, "alias": 0, "group": 0, "person": 0}


def test_listeners_are_told_of_each_change(store: Store) -> None:
    told: list[list[int]] = []
    with store.listening(lambda added: told.append(ids(added))):
        store.add(received(), [record(), record()])
        store.clear()
    store.add(received(), [record()])
    assert told == [[1, 2], []]


def test_threads_may_share_a_store(store: Store) -> None:
    def work() -> None:
        for _ in range(50):
            store.add(received(), [record(session_id="s")])
            store.records(Filter(session="s"))
            store.health()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(store.records(Filter(), limit=300).records) == list(range(200, 0, -1))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(vendor="signal"), "records_by_vendor"),
        (Filter(event="x"), "records_by_name"),
        (Filter(session="x"), "records_by_session"),
        (Filter(visitor="x"), "records_by_visitor"),
        (Filter(user="x"), "records_by_user"),
        (Filter(status="refused"), "records_by_refusal"),
    ],
)
def test_each_filter_has_its_index_and_sorts_nothing(store: Store, wanted: Filter, index: str) -> None:
    from sessionsight.inspector import schema

    where, values = schema.condition(wanted)
    query = f"EXPLAIN QUERY PLAN SELECT * FROM records WHERE {where} ORDER BY id DESC LIMIT 50"
    plan = " ".join(row["detail"] for row in store._db.execute(query, values))
    assert index in plan
    assert "TEMP B-TREE" not in plan
