"""The Redis store with real servers that are down, slow, full, emptied, replaced or unreachable."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.errors import AnswerLost, StoreBusy, StoreError, StoreFull, StoreUnavailable
from sessionsight.delivery.stores.redis.store import RedisStore
from sessionsight.log import ThrottledLogger
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import LANE, POISON, claim, counts, enter, redis_spool
from tests.core.delivery.test_redis_store import claim as claim_bodies
from tests.core.delivery.test_redis_store import claim_handles, put, record, settle
from tests.support.ports import free_port
from tests.support.redis_server import RedisProxy, RedisServer, run_redis
from tests.support.server import PATIENCE

LANE_OF_STORE = "signal"
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path) as server:
        yield server


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that loses nothing."""
    with run_redis(tmp_path, **DURABLE) as server:
        yield server


def open_store(url: str, *, timeout: float = 20.0, **options: Any) -> RedisStore:
    return open_redis_store(url, DeliveryOptions(**options), ThrottledLogger(), timeout=timeout)


def close(*spools: DurableSpool) -> int:
    lost = sum(spool.lane(LANE).close() for spool in spools)
    for spool in spools:
        spool.close()
    return lost


def maintain(spool: DurableSpool) -> None:
    """Run the maintenance when it is due next. A cool-down after a failure is over by then."""
    spool.clock.advance(2.0)  # type: ignore[attr-defined]
    spool.lane(LANE).maintain()


# --- errors ---------------------------------------------------------------------------------------


def test_a_refused_connection_changes_nothing() -> None:
    store = open_store(f"redis://:hunter2@127.0.0.1:{free_port()}")

    with pytest.raises(StoreUnavailable, match="Connection refused") as caught:
        put(store, record())

    assert type(caught.value) is StoreUnavailable
    assert "hunter2" not in str(caught.value)
    store.close()


def test_the_timeout_of_a_call_is_that_of_its_connection_too(server: RedisServer) -> None:
    store, connected = open_store(server.url), open_store(server.url, timeout=0.05)
    assert connected.ready() == []
    server.signal(signal.SIGSTOP)

    with pytest.raises(StoreUnavailable) as caught:  # nothing was sent
        store.claim(LANE, max_records=1, max_bytes=1, timeout=0.05)
    assert type(caught.value) is StoreUnavailable
    with pytest.raises(AnswerLost):
        connected.ready()
    with pytest.raises(StoreUnavailable, match="it has not answered in time"):
        store.claim(LANE, max_records=1, max_bytes=1, timeout=0.0)

    server.signal(signal.SIGCONT)
    assert connected.ready() == store.ready() == []
    store.close()
    connected.close()


def test_a_connection_that_the_server_has_closed_is_replaced(server: RedisServer) -> None:
    store = open_store(server.url)
    put(store, record(b"a"))
    server.command("CLIENT", "KILL", "TYPE", "normal")

    assert claim_bodies(store) == [b"a"]
    store.close()


def test_scripts_are_sent_again_when_the_server_has_forgotten_them(server: RedisServer) -> None:
    store = open_store(server.url)
    put(store, record(b"a"))
    server.command("SCRIPT", "FLUSH")

    assert claim_bodies(store) == [b"a"]
    store.close()


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", StoreBusy, "Redis is loading"),
        (b"-BUSY Redis is busy running a script.\r\n", StoreBusy, "busy running a script"),
        (b"-MISCONF Errors writing to the AOF file\r\n", StoreUnavailable, "MISCONF Errors writing"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", StoreUnavailable, "Not enough good replicas"),
        (b"-CLUSTERDOWN The cluster is down\r\n", StoreUnavailable, "The cluster is down"),
        (b"-ASK 1 127.0.0.1:1\r\n", StoreUnavailable, "127.0.0.1:1"),
        (b"-ERR unknown command 'EVALSHA', with args hunter2\r\n", StoreUnavailable, r"with args \*\*\*"),
    ],
)
def test_what_a_server_answers_instead(
    server: RedisServer, reply: bytes, error: type[StoreError], message: str
) -> None:
    with RedisProxy(server) as proxy:
        store = open_store(proxy.url.replace("//", "//default:hunter2@"))
        server.command("ACL", "SETUSER", "default", ">hunter2")
        proxy.answers.append(reply)

        with pytest.raises(error, match=message) as caught:
            put(store, record())

        assert type(caught.value) is error
        assert len(put(store, record()).handles) == 1
        store.close()


def test_a_full_server_accepts_nothing_and_delivers_what_it_has(server: RedisServer) -> None:
    store = open_store(server.url)
    put(store, record(b"a"), record(b"b"))
    server.command("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(StoreFull, match=r"OOM .*; give the server more memory"):
        put(store, record())
    one, two = claim_handles(store)
    assert store.mark_in_flight(LANE_OF_STORE, [one, two], timeout=20.0)[1] == {one, two}
    settle(store, [one, two], counter="delivered")
    assert store.recover(None, POISON) == (0, 0)
    store.maintain()

    assert store.counts(LANE_OF_STORE) == {"captured": 2, "delivered": 2, "pending": 0, "dead": 0}
    store.close()


def test_a_replica_cannot_be_written(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    with run_redis(tmp_path / "replica", replicaof=f"127.0.0.1 {server.port}") as replica:
        store = open_store(replica.url)

        with pytest.raises(StoreUnavailable, match="it is a replica: the URL must have the address of the primary"):
            put(store, record())

        store.close()


def test_a_wrong_password_is_explained_and_not_repeated(tmp_path: Path) -> None:
    with run_redis(tmp_path, requirepass="s/c:r%t") as server:
        for login in ("", ":hunter2@", "nobody:s%2Fc%3Ar%25t@"):
            store = open_store(server.url.replace("//", f"//{login}"))
            with pytest.raises(StoreUnavailable, match="check user and password in its URL") as caught:
                put(store, record())
            assert "hunter2" not in str(caught.value)
            store.close()
        store = open_store(server.url.replace("//", "//:s%2Fc%3Ar%25t@"))

        put(store, record(b"a"))

        assert claim_bodies(store) == [b"a"]
        store.close()


def test_a_user_without_rights_is_explained(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "+@connection")
    store = open_store(server.url.replace("//", "//app:pw@"))

    with pytest.raises(StoreUnavailable, match="and the rights of the user"):
        put(store, record())

    store.close()


def test_tls_by_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    options = {
        "tls-port": "0",
        "tls-cert-file": str(tmp_path / "server.pem"),
        "tls-key-file": str(tmp_path / "server.key"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "tls-auth-clients": "no",
    }
    with run_redis(tmp_path, **options) as server:
        store = open_store(f"{server.url}&ssl_ca_certs={tmp_path}/ca.pem")
        put(store, record(b"a"))
        assert claim_bodies(store) == [b"a"]
        store.close()

        wrong = open_store(f"{server.url}&ssl_ca_certs={tmp_path}/other.pem")
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            put(wrong, record())
        wrong.close()


def test_any_node_of_a_cluster_leads_to_the_one_that_has_the_keys(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    with (
        run_redis(folders[0], **{"cluster-enabled": "yes"}) as one,
        run_redis(folders[1], **{"cluster-enabled": "yes"}) as two,
        run_redis(folders[2], **{"cluster-enabled": "yes"}) as three,
    ):
        nodes = [one, two, three]
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        create = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + PATIENCE
        while not all("cluster_state:ok" in str(node.command("CLUSTER", "INFO")) for node in nodes):
            assert time.monotonic() < deadline
        stores = [open_store(node.url) for node in nodes]

        for store in stores:
            put(store, record(b"a"))

        assert claim_bodies(stores[0]) == [b"a", b"a", b"a"]
        assert stores[1].counts(LANE_OF_STORE) == {"captured": 3, "pending": 3, "dead": 0}
        for store in stores:
            store.close()


def test_a_node_that_has_moved_away_is_forgotten_when_it_is_down(server: RedisServer) -> None:
    with RedisProxy(server) as proxy:
        store = open_store(proxy.url)
        proxy.answers.append(b"-MOVED 1 127.0.0.1:%d\r\n" % free_port())

        with pytest.raises(StoreUnavailable, match="Connection refused"):
            put(store, record())

        assert len(put(store, record()).handles) == 1
        store.close()


# --- the spool ------------------------------------------------------------------------------------


def test_a_server_that_is_down_at_the_start_gets_the_records_later(tmp_path: Path) -> None:
    with run_redis(tmp_path) as server:
        server.kill()
        spool = redis_spool(server.url)
        queue = spool.lane(LANE)
        enter(spool, [event("a"), goal("g", key="order:1")])
        maintain(spool)
        assert counts(queue) == {"captured": 2, "pending": 2}
        sent = claim(queue, 9)
        assert labels(sent) == ["a"]  # the other has a key, which only the store knows
        queue.ack(sent)

        server.start()
        maintain(spool)

        assert counts(queue) == {"captured": 2, "delivered": 1, "pending": 1}
        assert labels(claim(queue, 2)) == ["g"]
        assert close(spool) == 0


def test_a_server_that_is_killed_and_restarted_keeps_everything(durable: RedisServer) -> None:
    spool = redis_spool(durable.url)
    queue = spool.lane(LANE)
    enter(spool, [goal("a"), event("b"), event("c")])
    a, b = claim(queue, 2)
    assert queue.mark_in_flight([a], durably=True) == [a]
    durable.kill()
    enter(spool, [event("d")])
    queue.ack([a])
    assert queue.mark_in_flight([b], durably=True) is None

    durable.start()
    maintain(spool)

    assert queue.mark_in_flight([b], durably=True) == [b]
    queue.ack([b])
    assert sorted(labels(claim(queue, 9))) == ["c", "d"]
    assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 2}
    assert close(spool) == 0


def test_a_server_that_is_down_at_the_end_loses_what_is_in_memory(server: RedisServer) -> None:
    spool = redis_spool(server.url)
    enter(spool, [event("a")])
    server.kill()
    enter(spool, [event("b")])

    assert close(spool) == 1


def test_a_server_without_persistence_is_emptied_by_a_restart(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    spool = redis_spool(server.url)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), goal("g"), event("b")])
    claimed = queue.claim(2, 10**9)
    assert labels(claimed) == ["g", "a"]
    server.kill()
    server.start()

    maintain(spool)

    assert "the store was emptied" in caplog.text
    assert queue.mark_in_flight(claimed, durably=True) == []
    assert labels(claim(queue, 9)) == ["g", "a", "b"]  # all three had been claimed, and are stored again
    assert counts(queue) == {"captured": 3, "pending": 3}
    assert close(spool) == 0


@pytest.mark.parametrize("losses", [1, 2])
def test_a_write_whose_answer_is_lost_is_repeated_without_doubling(server: RedisServer, losses: int) -> None:
    with RedisProxy(server) as proxy:
        spool = redis_spool(proxy.url)
        queue = spool.lane(LANE)
        enter(spool, [event("a")])
        proxy.lose = losses
        enter(spool, [event("b", key="k"), goal("g")])

        maintain(spool)
        maintain(spool)

        assert counts(queue) == {"captured": 3, "pending": 3}
        assert labels(claim(queue, 9)) == ["g", "a", "b"]
        assert close(spool) == 0


def test_a_claim_whose_answer_is_lost_is_found_again(server: RedisServer) -> None:
    with RedisProxy(server) as proxy:
        spool = redis_spool(proxy.url)
        queue = spool.lane(LANE)
        assert claim(queue, 1) == []  # the server knows the script then
        enter(spool, [event("a"), goal("g")])
        proxy.lose = 1
        assert claim(queue, 2) == []

        maintain(spool)

        assert sorted(labels(claim(queue, 2))) == ["a", "g"]
        assert close(spool) == 0


def test_a_poisoned_body_becomes_a_dead_letter_and_the_rest_goes_on(server: RedisServer) -> None:
    spool = redis_spool(server.url)
    queue = spool.lane(LANE)
    assert isinstance(spool.store, RedisStore)
    put(spool.store, record(b"\xc1 of a newer release", LANE))
    enter(spool, [event("a")])

    assert labels(claim(queue, 2)) == ["a"]

    assert counts(queue) == {"captured": 2, "pending": 1, "dead": 1}
    assert queue.dead_letters() == []  # it cannot be read
    assert close(spool) == 0


# --- a server that is billed by command -----------------------------------------------------------


def test_an_idle_process_sends_two_commands_every_five_seconds(server: RedisServer) -> None:
    spool = redis_spool(server.url)
    queue, clock = spool.lane(LANE), spool.clock

    def idle(seconds: float) -> int:
        """Return how many scripts are run in this time, with a prune in each minute."""
        before = scripts(server)
        end = clock.monotonic() + seconds
        while (due := queue.maintain()) < end:
            clock.advance(max(due - clock.monotonic(), 0.0))  # type: ignore[attr-defined]
        return scripts(server) - before

    idle(60.0)
    assert idle(600.0) <= 2 * 600 / 5 + 2 + 600 / 60 + 1
    assert close(spool) == 0


def scripts(server: RedisServer) -> int:
    stats = server.command("INFO", "commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
