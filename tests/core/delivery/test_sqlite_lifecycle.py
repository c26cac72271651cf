"""Shutdown and forks of real processes with a durable spool. The next process delivers what they leave."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.delivery.processes import FORKS
from tests.core.delivery.spool_processes import deliver, finish, ledgers, names, start
from tests.core.delivery.spools import files, query, sound
from tests.support.interpreter import skip_unless_child_can_run
from tests.support.server import Server, reply, silence

pytestmark = pytest.mark.processes


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def run(script: str, server: Server, path: Path, *, code: int = 0) -> None:
    finish(start(script, server, path), code=code)
    assert sound(path)


# --- the end --------------------------------------------------------------------------------------


def test_interpreter_exit_delivers_queued_records_and_leaves_one_file(server: Server, path: Path) -> None:
    run("client = make(linger=LONG)\nfor i in range(30):\n    capture(client, f'e{i}')", server, path)

    assert names(server) == {f"e{i}": 1 for i in range(30)}
    assert ledgers(path)["signal"] == {"captured": 30, "delivered": 30}
    assert files(path) == [path.name]


def test_interpreter_exit_delivers_for_a_dropped_client(server: Server, path: Path) -> None:
    run("def main():\n    capture(make(linger=LONG), 'a')\n\nmain()\ngc.collect()", server, path)

    assert names(server) == {"a": 1}


@pytest.mark.parametrize("threads", ["as they are", "none"])
def test_records_captured_during_interpreter_exit_are_delivered(server: Server, path: Path, threads: str) -> None:
    # Python 3.12.0 to 3.12.2 cannot start threads by then.
    script = """
client = make(linger=LONG)
atexit.register(capture, client, "first from atexit")
atexit.register(increment, client, "goal from atexit")
"""
    run(script + ("forbid_threads()" if threads == "none" else ""), server, path)

    assert names(server) == {"first from atexit": 1, "goal from atexit": 1}
    assert files(path) == [path.name]


def test_a_process_without_threads_delivers_records_of_a_dead_process(server: Server, path: Path) -> None:
    server.answer = silence()
    run("client = make()\ncapture(client, 'left')\ndie()", server, path, code=-signal.SIGKILL)
    server.answer = reply(200)

    run("forbid_threads()\ncapture(make(linger=LONG), 'own')", server, path)

    assert names(server).keys() == {"left", "own"}
    assert ledgers(path)["signal"] == {"captured": 2, "delivered": 2}


def test_a_silent_vendor_costs_only_the_shutdown_timeout_and_no_record(server: Server, path: Path) -> None:
    server.answer = silence()
    run("capture(make(shutdown_timeout=0.3, read_timeout=LONG, total_timeout=LONG), 'a')", server, path)
    assert ledgers(path)["signal"] == {"captured": 1, "pending": 1}
    server.answer = reply(200)

    deliver(server, path)

    assert ledgers(path)["signal"] == {"captured": 1, "delivered": 1}


# --- forks ----------------------------------------------------------------------------------------


def test_children_of_a_parent_that_has_captured_deliver_their_own_records(server: Server, path: Path) -> None:
    """A server that imports the application before it forks its workers."""
    script = """
client = make(linger=LONG)
capture(client, "parent")
pids = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        capture(client, f"child-{number}")
        sys.exit()
    pids.append(pid)
for pid in pids:
    reap(pid)
print(client.stats().lanes["signal"].captured)
"""
    run(script, server, path)

    assert names(server) == {"parent": 1, "child-0": 1, "child-1": 1, "child-2": 1}
    assert ledgers(path)["signal"] == {"captured": 4, "delivered": 4}
    assert files(path) == [path.name]


def test_the_parent_delivers_the_records_of_a_killed_child(server: Server, path: Path) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
pid = os.fork()
if pid == 0:
    capture(client, "child")
    die()
os.waitpid(pid, 0)
deadline = time.monotonic() + 20
while client.stats().lanes["signal"].delivered < 2:
    assert time.monotonic() < deadline, client.stats()
    client.flush(1)
    time.sleep(0.01)
"""
    run(script, server, path)

    assert names(server) == {"parent": 1, "child": 1}
    assert ledgers(path)["signal"] == {"captured": 2, "delivered": 2}
    assert files(path) == [path.name]


@pytest.mark.measured_processes
@FORKS
def test_a_running_child_delivers_its_own_records(server: Server, path: Path, fork: str) -> None:
    script = f"""
client = make()
capture(client, "parent")
assert client.flush(20)
pid = {fork}()
if pid == 0:
    for number in range(5):
        capture(client, f"child-{{number}}")
    assert client.flush(20)
    client.shutdown()
    os._exit(0)
reap(pid)
capture(client, "parent again")
"""
    run(script, server, path)

    in_the_file = 2 if fork == "fork_in_c" else 7
    assert names(server) == {"parent": 1, "parent again": 1, **{f"child-{number}": 1 for number in range(5)}}
    assert ledgers(path)["signal"] == {"captured": in_the_file, "delivered": in_the_file}
    assert files(path) == [path.name]


@pytest.mark.measured_processes
@FORKS
def test_a_fork_during_another_threads_transaction_does_not_hang(server: Server, path: Path, fork: str) -> None:
    """The file stays open across the fork, so the child cannot use it and delivers from memory."""
    skip_unless_child_can_run(fork)
    script = f"""
client = make(linger=LONG)
capture(client, "parent")
file = client._engine._spool.store.file
held, release = threading.Barrier(2), threading.Event()

def hold():
    with file.write(20):
        held.wait()
        release.wait()

writer = threading.Thread(target=hold)
writer.start()
held.wait()
pid = {fork}()
if pid == 0:
    capture(client, "child")
    assert client.shutdown()
    os._exit(0)
reap(pid)
release.set()
writer.join()
capture(client, "parent again")
"""
    run(script, server, path)

    assert names(server) == {"parent": 1, "parent again": 1, "child": 1}
    assert ledgers(path)["signal"] == {"captured": 2, "delivered": 2}
    assert files(path) == [path.name]


# --- multiprocessing ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pool_workers_deliver_when_they_end(server: Server, path: Path, method: str, tmp_path: Path) -> None:
    """They end without atexit, and also deliver the records of their parent, which is killed afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    module = """
import os, sys
from sessionsight.client import Client
from sessionsight.destinations import Signal
from sessionsight.settings import Settings

client = Client(Settings(
    destinations=(Signal(api_key="key", endpoint=os.environ["VENDOR"]),), trust_env=False, linger=3600.0,
    spool="sqlite:///" + os.environ["SPOOL"], spool_timeout=20.0, shutdown_timeout=20.0,
))

def work(name):
    client.analytics.capture(name, user_id="user_1")
"""
    (site / "shop_jobs.py").write_text(module, "utf-8")
    script = f"""
os.environ.update(VENDOR=URL, SPOOL=SPOOL)
sys.path.insert(0, {str(site)!r})
import shop_jobs

shop_jobs.work("before")
with multiprocessing.get_context({method!r}).Pool(2) as pool:
    pool.map(shop_jobs.work, [f"job-{{number}}" for number in range(6)])
    pool.close()
    pool.join()
shop_jobs.work("after")
die()
"""
    path = tmp_path / "spool" / "spool.db"
    path.parent.mkdir()
    run(script, server, path, code=-signal.SIGKILL)
    before = {"before": 1, **{f"job-{number}": 1 for number in range(6)}}
    assert names(server) == before

    deliver(server, path)

    assert names(server) == {**before, "after": 1}
    assert ledgers(path)["signal"] == {"captured": 8, "delivered": 8}


# --- gevent ---------------------------------------------------------------------------------------

GEVENT = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
PATCH = "from gevent import monkey\nmonkey.patch_all()\nimport gevent\n"


@GEVENT
def test_greenlets_that_capture_concurrently_lose_no_record(server: Server, path: Path) -> None:
    script = """
client = make(linger=LONG)
gevent.joinall([gevent.spawn(capture, client, f"e{i}") for i in range(200)], raise_error=True)
"""
    finish(start(script, server, path, patch=PATCH))

    assert names(server) == {f"e{i}": 1 for i in range(200)}
    assert ledgers(path)["signal"] == {"captured": 200, "delivered": 200}
    assert sound(path)


@GEVENT
def test_a_fork_under_gevent_shares_the_file(server: Server, path: Path) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
pid = os.fork()
if pid == 0:
    gevent.joinall([gevent.spawn(capture, client, f"child-{i}") for i in range(20)], raise_error=True)
    assert client.flush(20)
    assert client.shutdown()
    os._exit(0)
reap(pid)
capture(client, "parent again")
"""
    finish(start(script, server, path, patch=PATCH))

    assert names(server) == {"parent": 1, "parent again": 1, **{f"child-{i}": 1 for i in range(20)}}
    assert ledgers(path)["signal"] == {"captured": 22, "delivered": 22}
    assert query(path, "SELECT count(*) FROM queue") == [(0,)]
    assert files(path) == [path.name]
