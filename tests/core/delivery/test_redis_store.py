"""The store in Redis, beyond the contract of every spool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from msgspec.structs import replace

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.base import (
    DeadLetterQuery,
    Enqueued,
    Failure,
    NewRecord,
    Outcome,
)
from sessionsight.delivery.stores.errors import AnswerLost, ForeignDatabase, StoreUnavailable, UnsupportedSchema
from sessionsight.delivery.stores.redis.store import RedisStore
from sessionsight.log import ThrottledLogger
from tests.core.delivery.spools import POISON
from tests.support.brokers import need_redis
from tests.support.clock import RunningClock

LANE, OTHER = "signal", "saytics"
GOAL, EVENT = 0, 1
UNKNOWN = Failure(reason="unknown", message="the process ended", attempts=1)
REFUSED = Failure(reason="refused", message="no such goal", status=400, attempts=2, first_attempt=1.5, last_attempt=2.5)


class Namespace:
    """The keys of one test, and the stores that it opens on them."""

    def __init__(self) -> None:
        self.name = f"test-{uuid4().hex}"
        self.client = redis.Redis.from_url(need_redis(), decode_responses=True, protocol=2)
        self.clock = RunningClock()
        self._stores: list[RedisStore] = []

    def open(self, **options: Any) -> RedisStore:
        """Return a store, as of another process."""
        url = f"{need_redis()}?namespace={self.name}"
        chosen = DeliveryOptions(**options)
        self._stores.append(open_redis_store(url, chosen, ThrottledLogger(), clock=self.clock, timeout=20.0))
        return self._stores[-1]

    def key(self, name: str) -> str:
        return f"{{{self.name}}}:{name}"

    def keys(self) -> set[str]:
        return {key.partition(":")[2] for key in self.client.scan_iter(f"{{{self.name}}}:*", count=1000)}

    def empty(self) -> None:
        for key in self.client.scan_iter(f"{{{self.name}}}:*", count=1000):
            self.client.delete(key)

    def end(self, store: RedisStore) -> None:
        """Let the lease of a store's process be over."""
        self.client.zadd(self.key("owners"), {store.owner: 0})

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self.empty()
        self.client.close()


@pytest.fixture
def space() -> Iterator[Namespace]:
    space = Namespace()
    yield space
    space.close()


def record(body: bytes = b"body", *lanes: str, **fields: Any) -> NewRecord:
    return NewRecord(
        **{"lanes": lanes or (LANE,), "body": body, "priority": EVENT, "size": 10, "enqueued_at": 1.5, **fields}
    )


def put(store: RedisStore, *records: NewRecord, batch: bytes | None = None) -> Enqueued:
    counts: dict[tuple[str, str], int] = {}
    for each in records:
        for lane in each.lanes:
            counts[lane, "captured"] = counts.get((lane, "captured"), 0) + 1
    return store.enqueue(records, counts, batch_id=batch or uuid4().bytes, timeout=20.0)


def claim(store: RedisStore, number: int = 100, *, lane: str = LANE, size: int = 10**9) -> list[bytes]:
    return [each.body for each in store.claim(lane, max_records=number, max_bytes=size, timeout=20.0).claims]


def claim_handles(store: RedisStore, lane: str = LANE) -> list[int]:
    return [each.handle for each in store.claim(lane, max_records=100, max_bytes=10**9, timeout=20.0).claims]


def settle(store: RedisStore, handles: list[int], **outcome: Any) -> None:
    store.settle(LANE, [Outcome(handles=handles, **outcome)], timeout=20.0)


# --- enqueue --------------------------------------------------------------------------------------


def test_handles_ascend_and_are_those_of_the_claims(space: Namespace) -> None:
    store = space.open()
    assert store.unresolved(LANE) is None

    added = put(store, record(b"a"), record(b"b", LANE, OTHER)).handles

    assert added[0][LANE] < added[1][LANE] == added[1][OTHER]
    assert store.unresolved(LANE) == (added[0][LANE], added[1][LANE])
    claims = store.claim(LANE, max_records=9, max_bytes=10**9, timeout=20.0)
    assert [(each.handle, each.body, each.enqueued_at) for each in claims.claims] == [
        (added[0][LANE], b"a", 1.5),
        (added[1][LANE], b"b", 1.5),
    ]
    assert claims.epoch == store.epoch > 0


def test_a_body_is_stored_once_and_removed_with_its_last_lane(space: Namespace) -> None:
    store = space.open()
    [added] = put(store, record(b"x" * 500, LANE, OTHER)).handles
    assert space.client.hlen(space.key("records")) == 1

    claim(store, lane=LANE)
    settle(store, [added[LANE]], counter="delivered")
    assert space.client.hlen(space.key("records")) == 1
    claim(store, lane=OTHER)
    store.settle(OTHER, [Outcome(handles=[added[OTHER]], counter="delivered")], timeout=20.0)

    assert {"records", "refs"}.isdisjoint(space.keys())
    assert store.stats().used_bytes == 0
    assert store.counts(OTHER) == {"captured": 1, "delivered": 1, "pending": 0, "dead": 0}


def test_a_repeated_batch_has_no_further_effect(space: Namespace) -> None:
    store = space.open()
    first = put(store, record(b"a", key := LANE, dedupe_key="k"), record(b"b", key, dedupe_key="k"), batch=b"1")

    again = put(store, record(b"a", key, dedupe_key="k"), record(b"b", key, dedupe_key="k"), batch=b"1")

    assert again == first
    assert [len(lanes) for lanes in first.handles] == [1, 0]
    assert store.counts(LANE) == {"captured": 2, "pending": 1, "dead": 0, "duplicate": 1}


def test_the_server_forgets_batches_whose_answer_has_arrived(space: Namespace) -> None:
    store = space.open()
    for _ in range(110):
        put(store, record())

    assert space.client.hlen(space.key(f"batches:{store.owner}")) == 101  # a thread may repeat one of them just now
    assert 0 < space.client.ttl(space.key(f"batches:{store.owner}")) <= 600


def test_a_key_expires_by_the_servers_clock(space: Namespace) -> None:
    store = space.open(dedupe_window=60)
    put(store, record(dedupe_key="k", enqueued_at=time.time() - 3600))

    assert 0 < space.client.pttl(space.key(f"key:{LANE}:k")) <= 60_000
    assert put(store, record(dedupe_key="k", enqueued_at=time.time() + 3600)).handles == [{}]


def test_a_write_may_add_nothing(space: Namespace) -> None:
    assert put(space.open()).handles == []


def test_a_record_may_be_added_as_a_dead_letter(space: Namespace) -> None:
    store = space.open(dead_letters=1)

    assert put(store, record(b"a", failure=REFUSED), record(b"b", failure=REFUSED)).handles == [{}, {}]

    [found] = store.find(DeadLetterQuery())
    assert (found.body, found.failure, found.lane, found.enqueued_at) == (b"b", REFUSED, LANE, 1.5)
    assert abs(found.died_at - time.time()) < 3600
    assert store.counts(LANE) == {"captured": 2, "pending": 0, "dead": 1, "dead_letters_full": 1}


# --- the limit of the size ------------------------------------------------------------------------


def test_a_full_store_drops_the_oldest_events_and_then_goals_of_all_lanes(space: Namespace) -> None:
    store = space.open(spool_bytes=2_700)
    put(store, record(b"g" * 800, priority=GOAL))
    put(store, record(b"a" * 800, LANE, OTHER, dedupe_key="k"))

    assert put(store, record(b"b" * 800, OTHER)).evicted == {LANE: 1, OTHER: 1}

    assert store.counts(OTHER) == {"captured": 2, "pending": 1, "dead": 0, "queue_full": 1}
    assert put(store, record(b"c" * 800, dedupe_key="k")).evicted == {OTHER: 1}  # the key was freed
    assert put(store, record(b"d" * 800, priority=GOAL)).evicted == {LANE: 1}
    assert [body[:1] for body in claim(store)] == [b"g", b"d"]
    assert put(store, record(b"e" * 8000)).evicted == {LANE: 1}  # what is claimed is not dropped
    assert put(store, record(b"f")).evicted == {}


def test_what_the_server_has_evicted_is_counted(space: Namespace) -> None:
    store = space.open(spool_bytes=2_500, dead_letters=1)
    put(store, record(b"a"), record(b"b"))
    assert claim(store, 1) == [b"a"]
    put(store, *(record(failure=REFUSED) for _ in range(1)))
    for name in ("records", "letters"):
        space.client.delete(space.key(name))

    assert claim(store) == []
    assert store.claimed(LANE).claims == []
    assert store.find(DeadLetterQuery()) == []
    assert store.counts(LANE)["store_emptied"] == 1
    put(store, record(b"c" * 500, dedupe_key="k"))
    space.client.delete(space.key("records"))
    assert put(store, record(b"x" * 2000)).evicted == {LANE: 2}
    put(store, record(failure=REFUSED))  # drops the letter that was evicted
    assert len(store.find(DeadLetterQuery())) == 1
    space.client.delete(space.key("letters"))
    store.maintain()
    assert store.counts(LANE)["dead_letters_expired"] == 1


# --- claims ---------------------------------------------------------------------------------------


def test_a_claim_is_bounded_and_says_whether_more_is_ready(space: Namespace) -> None:
    store = space.open()
    put(store, *(record(b"%d" % number) for number in range(4)), record(b"goal", priority=GOAL))

    claimed = store.claim(LANE, max_records=1, max_bytes=10**9, timeout=20.0)
    assert ([each.body for each in claimed.claims], claimed.more) == ([b"goal"], True)
    assert claim(store, 9, size=25) == [b"0", b"1"]
    assert claim(store, 9, size=1) == [b"2"]
    claimed = store.claim(LANE, max_records=9, max_bytes=10**9, timeout=20.0)
    assert ([each.body for each in claimed.claims], claimed.more) == ([b"3"], False)


def test_claims_that_are_not_in_flight_can_be_read_again(space: Namespace) -> None:
    store = space.open()
    put(store, record(b"a"), record(b"b"), record(b"c"))
    one, two, three = claim_handles(store)
    assert store.mark_in_flight(LANE, [two], timeout=20.0) == (store.epoch, {two})
    settle(store, [three], counter="delivered")

    assert [each.body for each in store.claimed(LANE).claims] == [b"a"]
    settle(store, [two])
    assert [each.body for each in store.claimed(LANE).claims] == [b"a", b"b"]
    assert one < two


def test_released_claims_keep_their_order(space: Namespace) -> None:
    one, two, three = space.open(), space.open(), space.open()
    put(one, *(record(bytes([letter])) for letter in b"abcdef"), record(b"g", priority=GOAL))
    assert claim(one, 3) == [b"g", b"a", b"b"]
    assert claim(two, 1) == [b"c"]
    assert claim(one, 1) == [b"d"]

    two.close()
    one.close()

    assert claim(three) == [b"g", b"a", b"b", b"c", b"d", b"e", b"f"]


def test_what_a_process_had_claimed_is_recovered_after_its_lease(space: Namespace) -> None:
    ended, store = space.open(), space.open()
    put(ended, record(b"a"), record(b"g", priority=GOAL))
    goal, event = claim_handles(ended)
    ended.mark_in_flight(LANE, [goal], timeout=20.0)
    assert store.recover(UNKNOWN, POISON) == (0, 0)
    assert store.ready() == []

    space.end(ended)

    assert store.recover(UNKNOWN, POISON) == (1, 0)
    assert store.ready() == [LANE]
    assert [(each.handle, each.failure) for each in store.find(DeadLetterQuery())] == [(goal, UNKNOWN)]
    assert claim_handles(store) == [event]
    # The process was only stopped: nothing is its own any more.
    assert ended.mark_in_flight(LANE, [goal, event], timeout=20.0) == (store.epoch, set())
    settle(ended, [goal, event], counter="delivered")
    assert store.counts(LANE) == {"captured": 2, "pending": 1, "dead": 1}


def test_records_in_flight_may_be_recovered_as_well(space: Namespace) -> None:
    ended, store = space.open(), space.open()
    put(ended, record(b"a"))
    ended.mark_in_flight(LANE, claim_handles(ended), timeout=20.0)
    space.end(ended)

    assert store.recover(None, POISON) == (0, 0)

    assert claim(store) == [b"a"]


def test_takeovers_of_records_that_are_gone_are_not_kept(space: Namespace) -> None:
    ended, store = space.open(), space.open(spool_bytes=4000)
    put(ended, *(record(bytes([letter]) * 500) for letter in b"abc"))
    dropped, emptied, _ = claim_handles(ended)
    space.end(ended)
    store.recover(UNKNOWN, POISON)
    assert space.client.hlen(space.key(f"takeovers:{LANE}")) == 3

    store.discard(LANE, [dropped], counter="erased")
    space.client.hdel(space.key("records"), str(emptied))
    assert claim(store, 1) == []
    put(store, record(b"x" * 2400))

    assert store.counts(LANE) == {
        "captured": 4, "pending": 1, "dead": 0, "erased": 1, "store_emptied": 1, "queue_full": 1,
    }  # fmt: skip
    assert {f"takeovers:{LANE}"}.isdisjoint(space.keys())


def test_a_process_that_was_out_of_reach_lets_the_others_renew_their_leases_first(space: Namespace) -> None:
    one, two = space.open(), space.open()
    put(one, record(b"a"))
    assert claim(one) == [b"a"]
    two.recover(UNKNOWN, POISON)
    space.end(one)
    space.end(two)

    two.recover(UNKNOWN, POISON)
    assert two.ready() == []
    one.recover(UNKNOWN, POISON)
    two.recover(UNKNOWN, POISON)

    assert two.ready() == []
    assert len(one.claimed(LANE).claims) == 1


def test_claims_in_flight_of_a_closed_store_are_recovered_at_once(space: Namespace) -> None:
    closed, store = space.open(), space.open()
    put(closed, record(b"a"), record(b"b"))
    one, _ = claim_handles(closed)
    closed.mark_in_flight(LANE, [one], timeout=20.0)
    closed.close()
    closed.close()

    assert claim(store) == [b"b"]
    assert store.recover(UNKNOWN, POISON) == (1, 0)
    assert space.client.zrange(space.key("owners"), 0, -1) == [store.owner]
    with pytest.raises(StoreUnavailable, match="the spool is closed"):
        closed.recover(UNKNOWN, POISON)
    assert closed.counts(LANE)["pending"] == 1  # it can still be read


# --- reads ----------------------------------------------------------------------------------------


def test_unresolved_records_are_those_that_no_other_process_has_claimed(space: Namespace) -> None:
    store, other = space.open(), space.open()
    handles = [lanes[LANE] for lanes in put(store, *(record() for _ in range(15))).handles]
    assert store.unresolved(LANE) == (handles[0], handles[-1])

    claim(other, 2)
    assert store.unresolved(LANE) == (handles[2], handles[-1])
    claim(store, 8)
    claim(other, 5)

    assert store.unresolved(LANE) == (handles[2], handles[9])
    assert other.unresolved(LANE) == (handles[0], handles[-1])
    assert other.unresolved(OTHER) is None


def test_own_and_ready_records_are_found_by_their_handles(space: Namespace) -> None:
    store, other = space.open(), space.open()
    handles = [lanes[LANE] for lanes in put(store, *(record() for _ in range(20))).handles]
    [goal] = put(store, record(priority=GOAL)).handles
    claim(store, 1)
    claim(store, 3)
    claim(other, 4)

    asked = [*handles, goal[LANE], 7, handles[-1] + 10**6]
    assert store.owned_or_ready(LANE, asked, timeout=20.0) == {*handles[:3], *handles[7:], goal[LANE]}
    assert store.owned_or_ready(OTHER, asked, timeout=20.0) == set()


def test_records_are_found_by_a_part_of_their_body(space: Namespace) -> None:
    store, other = space.open(), space.open()
    put(store, *(record(b"body %d" % number, dedupe_key=f"user_{number}") for number in range(1200)))
    one, two, three = (lanes[LANE] for lanes in put(store, *(record(b"\xff user_1 \0") for _ in range(3))).handles)
    put(store, record(b"user_1", OTHER))
    claim(store, 1199)
    assert len(claim(other, 2)) == 2

    found = sorted(store.search(LANE, b"user_1"), key=lambda each: each.handle)

    body = b"\xff user_1 \0"
    assert [(each.handle, each.body) for each in found] == [(one, body), (two, body), (three, body)]
    assert store.discard(LANE, [one, two], counter="erased") == 1
    assert store.counts(LANE)["erased"] == 1
    assert claim(store) == [body]


def test_the_statistics_of_all_lanes(space: Namespace) -> None:
    store, other = space.open(), space.open()
    assert store.stats().lanes == {}
    assert store.stats().oldest is None
    put(store, record(b"a", enqueued_at=5.25), record(b"b", LANE, OTHER, enqueued_at=7.5))
    claim(other, 1)

    found = store.stats()

    assert sorted(found.lanes) == [OTHER, LANE]
    assert found.lanes[LANE].pending == found.lanes[LANE].captured == 2
    assert found.lanes[LANE].balanced
    assert found.claimed == {LANE: 1}
    assert (found.oldest, found.owners, found.schema, found.file_bytes, found.bypassed) == (5.25, 1, 1, None, 0)
    assert found.used_bytes > 400


# --- dead letters ---------------------------------------------------------------------------------


@pytest.fixture
def dead(space: Namespace) -> RedisStore:
    """A store with three dead letters."""
    store = space.open()
    put(store, record(b"a \xff"), record(b"b", dedupe_key="k", priority=GOAL), record(b"c", OTHER))
    goal, event = claim_handles(store)
    settle(store, [event], failure=REFUSED)
    settle(store, [goal], failure=replace(REFUSED, reason="unknown"))
    [third] = claim_handles(store, OTHER)
    store.settle(OTHER, [Outcome(handles=[third], failure=replace(REFUSED, status=None))], timeout=20.0)
    return store


SELECTIONS = pytest.mark.parametrize(
    ("query", "bodies"),
    [
        ({}, [b"a \xff", b"b", b"c"]),
        ({"ids": (3, 1, 99)}, [b"a \xff", b"c"]),
        ({"lane": OTHER}, [b"c"]),
        ({"lane": "none"}, []),
        ({"ids": (1, 3), "lane": OTHER}, [b"c"]),
        ({"reason": "unknown"}, [b"b"]),
        ({"contains": b"\xff"}, [b"a \xff"]),
        ({"contains": b"k"}, []),
        ({"died_before": time.time() - 3600}, []),
        ({"died_after": time.time() - 3600}, [b"a \xff", b"b", b"c"]),
        ({"died_after": time.time() + 3600}, []),
    ],
)


@SELECTIONS
def test_dead_letters_are_selected(dead: RedisStore, query: dict[str, Any], bodies: list[bytes]) -> None:
    assert [each.body for each in dead.find(DeadLetterQuery(**query))] == bodies
    assert [each.body for each in dead.find(DeadLetterQuery(**query), limit=1)] == bodies[:1]


@SELECTIONS
def test_selected_dead_letters_are_deleted(dead: RedisStore, query: dict[str, Any], bodies: list[bytes]) -> None:
    assert dead.delete(DeadLetterQuery(**query), counter="dead_letter_dropped") == len(bodies)

    assert len(dead.find(DeadLetterQuery())) == 3 - len(bodies)
    lanes = dead.stats().lanes.values()
    assert all(lane.balanced for lane in lanes)
    assert sum(lane.dropped.get("dead_letter_dropped", 0) for lane in lanes) == len(bodies)


@SELECTIONS
def test_selected_dead_letters_are_queued_again(dead: RedisStore, query: dict[str, Any], bodies: list[bytes]) -> None:
    assert dead.requeue(DeadLetterQuery(**query)) == len(bodies)

    assert all(lane.balanced for lane in dead.stats().lanes.values())
    assert sorted(claim(dead) + claim(dead, lane=OTHER)) == bodies


def test_a_requeued_record_is_a_new_one_without_a_key(dead: RedisStore) -> None:
    last = max(each.handle for each in dead.find(DeadLetterQuery()))

    assert dead.requeue(DeadLetterQuery()) == 3

    one, two = dead.claim(LANE, max_records=9, max_bytes=10**9, timeout=20.0).claims
    assert (one.body, two.body) == (b"b", b"a \xff")
    assert min(one.handle, two.handle) > last
    assert abs(one.enqueued_at - time.time()) < 3600
    assert dead.find(DeadLetterQuery()) == []


def test_old_dead_letters_are_dropped_from_time_to_time(space: Namespace) -> None:
    keeping, dropping = space.open(), space.open(dead_letters_max_age=0.0)
    put(keeping, record(failure=REFUSED), record(failure=REFUSED))
    keeping.maintain()
    assert keeping.counts(LANE)["dead"] == 2

    dropping.maintain()
    assert keeping.counts(LANE) == {"captured": 2, "pending": 0, "dead": 0, "dead_letters_expired": 2}
    put(keeping, record(failure=REFUSED))
    dropping.maintain()  # it is not due
    assert keeping.counts(LANE)["dead"] == 1
    space.clock.advance(60.0)
    dropping.maintain()
    assert keeping.counts(LANE)["dead"] == 0


# --- other data -----------------------------------------------------------------------------------


CALLS: dict[str, Callable[[RedisStore], object]] = {
    "enqueue": lambda store: put(store, record()),
    "claim": claim,
    "ready": RedisStore.ready,
    "maintain": RedisStore.maintain,
}


@pytest.mark.parametrize("name", CALLS)
def test_the_store_of_a_newer_release_is_not_touched(space: Namespace, name: str) -> None:
    space.client.hset(space.key("meta"), mapping={"schema": 2, "epoch": 7})

    with pytest.raises(UnsupportedSchema, match=r"a newer release has created it \(version 2\)"):
        CALLS[name](space.open())

    assert space.client.hgetall(space.key("meta")) == {"schema": "2", "epoch": "7"}
    assert space.keys() == {"meta"}


@pytest.mark.parametrize("name", CALLS)
def test_keys_of_another_program_are_not_touched(space: Namespace, name: str) -> None:
    space.client.set(space.key("meta"), "mine")

    with pytest.raises(ForeignDatabase, match="another program has keys under its namespace"):
        CALLS[name](space.open())

    assert space.client.get(space.key("meta")) == "mine"
    assert space.keys() == {"meta"}


def test_an_emptied_store_is_noticed_and_logged_once(space: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    store = space.open()
    put(store, record())
    before = store.epoch
    space.empty()

    assert store.ready() == []
    assert store.epoch == before  # nothing is known as long as nothing is in it
    assert claim(store) == []
    assert store.recover(UNKNOWN, POISON) == (0, 0)

    assert store.epoch not in (0, before)
    [logged] = caplog.records
    assert logged.levelno == logging.ERROR
    assert "the store was emptied" in logged.getMessage()
    assert store.check() == {}


def test_an_answer_from_before_the_store_was_emptied_counts_as_lost(space: Namespace) -> None:
    store = space.open()
    put(store, record())
    run = store.connections.run

    def emptied_meanwhile(*arguments: Any, **options: Any) -> Any:
        reply = run(*arguments, **options)
        store.epoch += 1  # another thread has noticed
        return reply

    store.connections.run = emptied_meanwhile  # type: ignore[method-assign]
    with pytest.raises(AnswerLost, match="it was emptied in the meantime"):
        put(store, record())
