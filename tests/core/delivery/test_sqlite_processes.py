"""Real processes that share a spool: killed at any instruction, forked in any way, and shut down."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.delivery.spool_processes import PRELUDE, deliver, finish, ledgers, names, start
from tests.core.delivery.spools import files, sound
from tests.support.server import Server, reply, silence

pytestmark = pytest.mark.processes


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


# --- kill -9 --------------------------------------------------------------------------------------


def test_acknowledged_records_survive_the_process(server: Server, path: Path) -> None:
    server.answer = silence()
    script = "client = make()\nfor i in range(50):\n    capture(client, f'e{i}')\ndie()"
    acknowledged = finish(start(script, server, path), code=-signal.SIGKILL)
    assert len(acknowledged) == 50
    assert sound(path)
    server.answer = reply(200)

    deliver(server, path)

    assert names(server).keys() == set(acknowledged)
    assert ledgers(path)["signal"] == {"captured": 50, "delivered": 50}


@pytest.mark.parametrize("seed", range(12))
def test_a_process_may_die_at_any_statement(server: Server, path: Path, seed: int) -> None:
    """No acknowledged record is lost, no goal is sent twice, and no record is in two places."""
    number = random.Random(seed).randrange(1, 30 * (seed + 1))
    script = f"""
die_at({number})
client = make()
for i in range(10):
    capture(client, f"e{{i}}")
    increment(client, f"g{{i}}")
client.flush(20)
client.shutdown()
"""
    acknowledged = set(finish(start(script, server, path), code=None))
    assert sound(path)

    deliver(server, path)

    arrived = names(server)
    stats = ledgers(path)
    goals = stats["sessionsight"]
    assert {name for name in acknowledged if name.startswith("e")} <= arrived.keys()
    lost = {name for name in acknowledged if name.startswith("g")} - arrived.keys()
    assert len(lost) <= goals.get("dead", 0)
    assert all(times == 1 for name, times in arrived.items() if name.startswith("g"))
    assert "pending" not in goals
    assert "pending" not in stats["signal"]
    assert sound(path)


def test_processes_that_are_killed_and_replaced_lose_and_repeat_nothing(server: Server, path: Path) -> None:
    """Four at a time submit and drain; each except the last ones is killed."""
    script = """
who = sys.argv[3]
client = make()
for i in range(15):
    capture(client, f"e-{who}-{i}")
    increment(client, f"g-{who}-{i}")
"""
    chance = random.Random(7)
    processes: list[subprocess.Popen[str]] = []
    acknowledged: list[str] = []
    for generation in range(3):
        for who in range(4):
            fate = f"threading.Timer({chance.uniform(0.02, 0.3)}, die).start()\n" if generation < 2 else ""
            named = script.replace("sys.argv[3]", repr(f"{generation}{who}"))
            processes.append(start(fate + named, server, path))
    for process in processes:
        acknowledged += finish(process, code=None)

    deliver(server, path)

    arrived, stats = names(server), ledgers(path)
    events = {name for name in acknowledged if name.startswith("e")}
    goals = {name for name in acknowledged if name.startswith("g")}
    assert len(acknowledged) >= 4 * 30
    assert events <= arrived.keys()
    assert len(goals - arrived.keys()) <= stats["sessionsight"].get("dead", 0)
    assert max(times for name, times in arrived.items() if name.startswith("g")) == 1
    assert not any("pending" in ledger for ledger in stats.values())
    assert sound(path)


# --- the end --------------------------------------------------------------------------------------


def test_records_for_an_unreachable_vendor_are_kept_at_exit(server: Server, path: Path) -> None:
    server.answer = reply(503)
    script = "client = make(shutdown_timeout=0.2)\ncapture(client, 'a')\nassert client.shutdown()"
    finish(start(script, server, path))
    assert ledgers(path)["signal"] == {"captured": 1, "pending": 1}
    server.answer = reply(200)

    deliver(server, path)

    assert ledgers(path)["signal"] == {"captured": 1, "delivered": 1}


def test_another_process_delivers_the_records_of_a_dead_one(server: Server, path: Path) -> None:
    server.answer = silence()
    finish(start("client = make()\ncapture(client, 'left')\ndie()", server, path), code=-signal.SIGKILL)
    server.answer = reply(200)
    script = """
client = make()
increment(client, "own")
deadline = time.monotonic() + 20
while client.stats().lanes["signal"].pending and time.monotonic() < deadline:
    time.sleep(0.01)
"""

    finish(start(script, server, path))

    assert names(server).keys() == {"left", "own"}


# --- forks ----------------------------------------------------------------------------------------


@pytest.mark.measured_processes
def test_a_forked_child_shares_the_file(server: Server, path: Path) -> None:
    script = """
client = make()
capture(client, "before")
pid = os.fork()
capture(client, "child" if pid == 0 else "parent")
assert client.flush(20)
if pid == 0:
    client.shutdown()
    os._exit(0)
reap(pid)
"""
    finish(start(script, server, path))

    assert names(server) == {"before": 1, "child": 1, "parent": 1}
    assert ledgers(path)["signal"] == {"captured": 3, "delivered": 3}
    assert files(path) == [path.name]


def test_forks_while_other_threads_write(server: Server, path: Path) -> None:
    script = """
client = make()
stop = threading.Event()
def write(who):
    i = 0
    while not stop.is_set():
        capture(client, f"{who}-{i}")
        i += 1
threads = [threading.Thread(target=write, args=(who,)) for who in "ab"]
for thread in threads: thread.start()
for number in range(5):
    pid = os.fork()
    if pid == 0:
        capture(client, f"child-{number}")
        os._exit(0)
    reap(pid)
stop.set()
for thread in threads: thread.join()
assert client.flush(20)
"""
    acknowledged = finish(start(script, server, path))

    deliver(server, path)

    assert names(server).keys() == set(acknowledged)
    assert sound(path)


@pytest.mark.measured_processes
def test_a_child_forked_by_c_code_does_not_use_the_file(server: Server, path: Path) -> None:
    """The child, and its own child, log one error each and deliver their records from memory."""
    script = """
logging.basicConfig(stream=sys.stdout, format="%(levelname)s")
client = make()
capture(client, "parent")
assert client.flush(20)
engine = client._engine
connection = engine._spool.store.file._connection
pid = fork_in_c()
if pid == 0:
    opened = []
    sys.addaudithook(lambda event, given: opened.append(given) if event == "sqlite3.connect" else None)
    for name in ("child", "child again"):
        capture(client, name)
        assert client.flush(20)
    assert client.stats().lanes["signal"].captured == 2
    grandchild = os.fork()
    if grandchild == 0:
        capture(client, "grandchild")
    else:
        reap(grandchild)
    assert client.shutdown(20)
    assert not opened, opened
    os._exit(0)
reap(pid)
assert engine._spool.store.file._connection is connection
capture(client, "parent again")
"""
    printed = finish(start(script, server, path))

    assert names(server) == dict.fromkeys(("parent", "child", "child again", "grandchild", "parent again"), 1)
    assert ledgers(path)["signal"] == {"captured": 2, "delivered": 2}
    assert printed.count("ERROR") == 2  # the child's, and the grandchild's
    assert files(path) == [path.name]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_share_the_file(server: Server, path: Path, method: str, tmp_path: Path) -> None:
    module = tmp_path / "children.py"
    module.write_text(PRELUDE + "def work(name):\n    client = make()\n    capture(client, name)\n")
    script = f"""
sys.path.insert(0, {str(tmp_path)!r})
import children
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    processes = [context.Process(target=children.work, args=(name,)) for name in "abc"]
    for process in processes: process.start()
    for process in processes: process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
"""
    spool = tmp_path / "spool" / "spool.db"
    spool.parent.mkdir()
    finish(start(script, server, spool))

    deliver(server, spool)

    assert names(server) == {"a": 1, "b": 1, "c": 1}
    assert ledgers(spool)["signal"] == {"captured": 3, "delivered": 3}
