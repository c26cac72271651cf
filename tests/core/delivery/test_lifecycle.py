"""The ends and the forks of real processes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sessionsight.delivery import lifecycle
from tests.core.delivery.processes import FORKS, finish, names, run, start_in_memory
from tests.support.server import Server, after, drip, reply, silence

pytestmark = [pytest.mark.processes, pytest.mark.measured_processes]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


# --- the end --------------------------------------------------------------------------------------


def test_what_is_left_is_delivered_when_the_interpreter_exits(server: Server) -> None:
    assert run("client = make(linger=LONG)\ncapture(client, 'a')", server) == ("", "")

    assert names(server) == ["a"]


def test_so_is_what_a_client_has_taken_that_nobody_remembers(server: Server) -> None:
    script = """
def main():
    capture(make(linger=LONG), "a")

main()
gc.collect()
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["a"]


def test_what_is_captured_while_the_interpreter_exits_is_delivered(server: Server) -> None:
    script = """
client = make(linger=LONG)
atexit.register(capture, client, "from atexit")
capture(client, "a")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["a", "from atexit"]


def test_what_is_captured_for_the_first_time_while_the_interpreter_exits_is_delivered(server: Server) -> None:
    # Python 3.12.0 to 3.12.2 start no thread any more by then.
    script = """
client = make(linger=LONG)
atexit.register(capture, client, "from atexit")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["from atexit"]


def test_where_no_thread_can_be_started_all_lanes_deliver_at_the_end(server: Server) -> None:
    script = """
forbid_threads()
events, goals = make(), make(name="sessionsight")
capture(events, "a")
goals.analytics.goals.increment("signups", session_id="6f1d2c3b")
goals.analytics.goals.increment("signups", session_id="6f1d2c3b")
"""
    assert run(script, server) == ("", "")

    assert sorted(request.target for request in server.requests) == [
        "/v1/capture", "/v1/goals/increment", "/v1/goals/increment",
    ]  # fmt: skip


def test_where_no_thread_can_be_started_a_dead_vendor_leaves_time_for_the_others() -> None:
    def decide(request: Any) -> Any:
        return silence() if request.target == "/v1/capture" else reply(200)

    script = """
forbid_threads()
client = Client(
    Settings(
        destinations=(
            Signal(api_key="key", endpoint=URL),
            SessionSight(secret_api_key="key", property_id="shop", api_url=URL),
        ),
        shutdown_timeout=3.0,
        trust_env=False,
    )
)
capture(client, "a")
client.analytics.goals.increment("signups", session_id="6f1d2c3b")
"""
    with Server(decide=decide) as server:
        _, err = run(script, server)

        assert "/v1/goals/increment" in {request.target for request in server.requests}
        assert "1 for signal" in err
        assert "for sessionsight" not in err


@pytest.mark.parametrize(
    "answer",
    [
        silence(),
        drip(b"HTTP/1.1 200 OK\r\n", b"x-y: z\r\n"),
        reply(503, {"Retry-After": "3600"}),
        reply(500),
        reply(401),
    ],
    ids=["silent", "dripping", "asking-to-wait", "failing", "refusing"],
)
def test_nothing_exceeds_the_time_for_the_end_and_what_is_lost_is_counted_and_logged(answer: Any) -> None:
    script = """
client = make(
    shutdown_timeout=0.3, connect_timeout=LONG, read_timeout=LONG, total_timeout=LONG,
    retry_after_max=LONG, pause_interval=LONG, backoff_base=LONG, backoff_max=LONG,
)
def tell():
    stats = client.stats().lanes["signal"]
    print(stats.captured, stats.dropped, stats.balanced)

from sessionsight.delivery import lifecycle

capture(client, "a")
capture(client, "b")
lifecycle.close_all()
tell()
"""
    with Server(answer=answer) as server:
        out, err = run(script, server)

    assert out == "2 {'shutdown': 2} True\n"
    assert "WARNING shutdown: records were lost that could not be delivered: 2 for signal" in err


def test_a_process_with_a_silent_vendor_ends_by_itself() -> None:
    with Server(answer=silence()) as server:
        _, err = run(
            "client = make(shutdown_timeout=0.3, read_timeout=LONG, total_timeout=LONG)\ncapture(client, 'a')", server
        )

    assert "records were lost that could not be delivered: 1 for signal" in err


def test_what_a_client_that_nobody_remembers_could_not_deliver_is_logged_as_well() -> None:
    script = """
def main():
    capture(make(shutdown_timeout=0.3, read_timeout=LONG, total_timeout=LONG), "a")

main()
gc.collect()
"""
    with Server(answer=silence()) as server:
        _, err = run(script, server)

    assert "records were lost that could not be delivered: 1 for signal" in err


def test_a_process_that_may_take_no_time_to_end_still_counts_what_is_lost(server: Server) -> None:
    _, err = run("client = make(shutdown_timeout=0, linger=LONG)\ncapture(client, 'a')", server)

    assert "1 for signal" in err or names(server) == ["a"]


def test_a_shutdown_by_hand_is_the_end(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "a")
print(client.shutdown())
capture(client, "b")
print(client.stats().lanes["signal"].dropped)
"""
    assert run(script, server) == ("True\n{'shutdown': 1}\n", "")

    assert names(server) == ["a"]


class Last:
    """Something to close, that writes down when it has to be done."""

    shutdown_timeout = 1.0

    def __init__(self, log: list[tuple[str, float]], timeout: float = 1.0, *, fails: bool = False) -> None:
        self.log = log
        self.shutdown_timeout = timeout
        self.fails = fails
        self.pid = os.getpid()

    def begin_shutdown(self, deadline: float) -> None:
        self.log.append(("hurry", deadline))
        if self.fails:
            raise RuntimeError("no")

    def finish_shutdown(self, deadline: float) -> bool:
        self.log.append(("close", deadline))
        if self.fails:
            raise RuntimeError("no")
        return True


@pytest.fixture
def _nothing_else_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_open", type(lifecycle._open)())
    monkeypatch.setattr(lifecycle, "_engines", set())


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_all_clients_share_one_deadline_and_all_are_hurried_before_any_is_waited_for() -> None:
    log: list[tuple[str, float]] = []
    closables = [Last(log, 1.0), Last(log, 30.0), Last(log, 2.0)]
    for closable in closables:
        lifecycle.register(closable)
    before = time.monotonic()

    lifecycle.close_all()

    assert [what for what, _ in log] == ["hurry"] * 3 + ["close"] * 3
    [deadline] = {deadline for _, deadline in log}
    assert before + 30 <= deadline <= time.monotonic() + 30
    lifecycle.close_all()
    assert len(log) == 6, "once"


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_one_that_fails_keeps_no_other_from_being_closed(caplog: pytest.LogCaptureFixture) -> None:
    log: list[tuple[str, float]] = []
    closables = [Last(log, fails=True), Last(log), Last(log, fails=True)]
    for closable in closables:
        lifecycle.register(closable)

    lifecycle.close_all()

    assert [what for what, _ in log] == ["hurry"] * 3 + ["close"] * 3
    assert "internal error at the end of the process" in caplog.text


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_what_another_process_has_taken_in_is_not_closed_here() -> None:
    log: list[tuple[str, float]] = []
    mine, parents = Last(log), Last(log)
    parents.pid = os.getppid()
    lifecycle.register_engine(mine)
    lifecycle.register_engine(parents)

    lifecycle.close_all()

    assert [what for what, _ in log] == ["hurry", "close"]


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_what_is_closed_already_is_closed_no_more() -> None:
    log: list[tuple[str, float]] = []
    working = Last(log)
    lifecycle.register_engine(working)
    lifecycle.unregister_engine(working)

    lifecycle.close_all()

    assert log == []


# --- SIGTERM --------------------------------------------------------------------------------------

WAIT_FOR_TERM = """
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_sigterm_delivers_what_is_left_where_it_is_asked_for(server: Server) -> None:
    script = """
from sessionsight.delivery.lifecycle import install_sigterm

install_sigterm()
client = make(linger=LONG)
capture(client, "a")
"""
    process = start_in_memory(script + WAIT_FOR_TERM, server)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.terminate()

    finish(process, code=128 + signal.SIGTERM)
    assert names(server) == ["a"]


def test_a_handler_that_was_there_before_is_called_first(server: Server) -> None:
    script = """
from sessionsight.delivery.lifecycle import install_sigterm

client = make(linger=LONG)
signal.signal(signal.SIGTERM, lambda number, frame: capture(client, f"signal {number}"))
install_sigterm()
"""
    process = start_in_memory(script + WAIT_FOR_TERM, server)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.terminate()

    finish(process, code=128 + signal.SIGTERM)
    assert names(server) == ["signal 15"]


def test_no_handler_is_installed_unasked(server: Server) -> None:
    out, _ = run(
        "client = make()\ncapture(client, 'a')\nprint(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)", server
    )

    assert out == "True\n"


# --- captures at bad moments ----------------------------------------------------------------------


def test_a_signal_handler_may_capture_whatever_it_interrupts(server: Server) -> None:
    script = """
client = make(queue_records=50)
handled = 0

def handle(number, frame):
    global handled
    handled += 1
    capture(client, "from the handler")

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
mine = 0
while handled < 300:
    mine += 1
    capture(client, "from the loop")
signal.setitimer(signal.ITIMER_REAL, 0)
client.flush()
stats = client.stats().lanes["signal"]
assert stats.balanced, stats
assert stats.captured == mine + handled, (stats, mine, handled)
print("done")
"""
    out, _ = run(script, server, covered=False)

    assert out == "done\n"


def test_a_finalizer_may_capture_whenever_the_garbage_is_collected(server: Server) -> None:
    script = """
client = make(queue_records=50)
collected = 0

class Ring:
    def __init__(self):
        self.me = self

    def __del__(self):
        global collected
        collected += 1
        capture(client, "from a finalizer")

mine = 0
gc.set_threshold(5, 2, 2)
while collected < 300:
    Ring()
    mine += 1
    capture(client, "from the loop")
gc.disable()
client.flush()
stats = client.stats().lanes["signal"]
assert stats.balanced, stats
assert stats.captured == mine + collected, (stats, mine, collected)
print("done", flush=True)
os._exit(0)
"""
    out, _ = run(script, server, covered=False)

    assert out == "done\n"


# --- forks ----------------------------------------------------------------------------------------


def test_a_forked_child_delivers_its_own_once_and_the_parent_its_own_once(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent before")
pid = os.fork()
if pid == 0:
    assert client.stats().lanes["signal"].captured == 0, "none of the parent's"
    capture(client, "child")
    sys.exit()
reap(pid)
capture(client, "parent after")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child", "parent after", "parent before"]


def test_a_child_that_captures_nothing_sends_nothing(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
pid = os.fork()
if pid == 0:
    sys.exit()
reap(pid)
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["parent"]


def test_a_fork_while_a_call_is_under_way_sends_it_once(server: Server) -> None:
    script = """
client = make()
capture(client, "under way")
sys.stdin.readline()
pid = os.fork()
if pid == 0:
    capture(client, "child")
    client.flush()
    os._exit(0)
reap(pid)
print("reaped", flush=True)
"""
    answered = threading.Event()
    server.will(after(answered, reply(200)))
    process = start_in_memory(script, server)
    assert process.stdin is not None
    assert process.stdout is not None
    server.wait_for(1)
    process.stdin.write("fork now\n")
    process.stdin.flush()
    assert process.stdout.readline() == "reaped\n"
    answered.set()

    finish(process)
    assert names(server) == ["child", "under way"]


def test_grandchildren_and_siblings_start_clean_as_well(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
pids = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        capture(client, f"child {number}")
        inner = os.fork()
        if inner == 0:
            capture(client, f"grandchild {number}")
            sys.exit()
        reap(inner)
        sys.exit()
    pids.append(pid)
for pid in pids:
    reap(pid)
"""
    assert run(script, server) == ("", "")

    assert names(server) == [
        "child 0", "child 1", "child 2", "grandchild 0", "grandchild 1", "grandchild 2", "parent",
    ]  # fmt: skip


def test_many_threads_of_a_child_that_capture_at_once_lose_nothing(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
pid = os.fork()
if pid == 0:
    ready = threading.Barrier(8)
    def work():
        ready.wait()
        capture(client, "child")
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    stats = client.stats().lanes["signal"]
    assert (stats.captured, stats.balanced) == (8, True), stats
    sys.exit()
reap(pid)
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child"] * 8 + ["parent"]


def test_a_child_of_multiprocessing_delivers_before_it_leaves_without_atexit(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent")
process = multiprocessing.get_context("fork").Process(target=capture, args=(client, "child"))
process.start()
process.join()
assert process.exitcode == 0, process.exitcode
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child", "parent"]


def test_the_workers_of_a_multiprocessing_pool_deliver_what_they_capture(server: Server) -> None:
    script = """
client = make(linger=LONG)
def work(number):
    capture(client, f"job {number}")
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(work, range(6))
    pool.close()
    pool.join()
"""
    assert run(script, server) == ("", "")

    assert names(server) == [f"job {number}" for number in range(6)]


@FORKS
def test_a_fork_while_other_threads_hold_our_locks_does_not_hang_the_child(server: Server, fork: str) -> None:
    script = f"""
client = make(linger=LONG)
capture(client, "parent")
engine = client._engine
lane = engine._lanes["signal"]
held, release = threading.Barrier(2), threading.Event()

def hold():
    with lane._lock, lane._queue._lock, engine._counts_lock, logging.getLogger().handlers[0].lock:
        held.wait()
        release.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
pid = {fork}()
if pid == 0:
    capture(client, "child")
    client.stats()
    assert client.flush(20), client.stats()
    os._exit(0)
reap(pid)
release.set()
holder.join()
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child", "parent"]


@FORKS
def test_the_first_capture_after_a_fork_does_not_log_on_the_way_of_the_request(server: Server, fork: str) -> None:
    script = f"""
client = make(linger=LONG)
threads = []

class Handler(logging.Handler):
    def emit(self, record):
        threads.append(threading.current_thread().name)

logging.getLogger("sessionsight").addHandler(Handler())
logging.getLogger("sessionsight").propagate = False
pid = {fork}()
if pid == 0:
    client.analytics.capture("nobody")  # has nobody to attribute it to, which is worth a line
    capture(client, "child")
    assert client.flush(20)
    assert threads == ["sessionsight-signal"], threads
    os._exit(0)
reap(pid)
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child"]


def test_a_child_opens_connections_of_its_own(server: Server) -> None:
    script = """
client = make()
capture(client, "parent 1")
client.flush()
pid = os.fork()
if pid == 0:
    capture(client, "child")
    client.flush()
    os._exit(0)
reap(pid)
capture(client, "parent 2")
client.flush()
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child", "parent 1", "parent 2"]
    by = {request.json["events"][0]["event"]: request.connection for request in server.requests}
    assert by["parent 1"] == by["parent 2"] != by["child"]
    assert len(set(itertools.chain(by.values()))) == 2
