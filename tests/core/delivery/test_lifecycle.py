"""Exit and fork of real processes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight.delivery import lifecycle
from tests.core.delivery.processes import FORKS, finish, names, run, start_in_memory
from tests.support.server import Server, after, drip, reply, silence

pytestmark = pytest.mark.processes


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


# --- exit -----------------------------------------------------------------------------------------


def test_queued_records_are_delivered_when_the_interpreter_exits(server: Server) -> None:
    assert run("client = make(linger=LONG)\ncapture(client, 'a')", server) == ("", "")

    assert names(server) == ["a"]


def test_records_of_a_garbage_collected_client_are_delivered_at_exit(server: Server) -> None:
    script = """
def main():
    capture(make(linger=LONG), "a")

main()
gc.collect()
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["a"]


@pytest.mark.measured_processes
def test_records_captured_while_the_interpreter_exits_are_delivered(server: Server) -> None:
    script = """
client = make(linger=LONG)
atexit.register(capture, client, "from atexit")
capture(client, "a")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["a", "from atexit"]


def test_the_first_record_of_a_process_may_be_captured_while_the_interpreter_exits(server: Server) -> None:
    # Python 3.12.0 to 3.12.2 start no thread at that point.
    script = """
client = make(linger=LONG)
atexit.register(capture, client, "from atexit")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["from atexit"]


@pytest.mark.measured_processes
def test_without_threads_all_lanes_deliver_at_exit(server: Server) -> None:
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


def test_without_threads_a_dead_vendor_leaves_time_for_the_others() -> None:
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
def test_shutdown_timeout_is_never_exceeded_and_lost_records_are_counted_and_logged(answer: Any) -> None:
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


def test_a_process_with_a_silent_vendor_exits() -> None:
    with Server(answer=silence()) as server:
        _, err = run(
            "client = make(shutdown_timeout=0.3, read_timeout=LONG, total_timeout=LONG)\ncapture(client, 'a')", server
        )

    assert "records were lost that could not be delivered: 1 for signal" in err


def test_lost_records_of_a_garbage_collected_client_are_logged_as_well() -> None:
    script = """
def main():
    capture(make(shutdown_timeout=0.3, read_timeout=LONG, total_timeout=LONG), "a")

main()
gc.collect()
"""
    with Server(answer=silence()) as server:
        _, err = run(script, server)

    assert "records were lost that could not be delivered: 1 for signal" in err


def test_with_a_shutdown_timeout_of_zero_lost_records_are_counted(server: Server) -> None:
    _, err = run("client = make(shutdown_timeout=0, linger=LONG)\ncapture(client, 'a')", server)

    assert "1 for signal" in err or names(server) == ["a"]


def test_nothing_is_delivered_after_an_explicit_shutdown(server: Server) -> None:
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
    """A closable object that records its deadlines."""

    shutdown_timeout = 1.0

    def __init__(self, log: list[tuple[str, float]], timeout: float = 1.0, *, fails: bool = False) -> None:
        self.log = log
        self.shutdown_timeout = timeout
        self.fails = fails
        self.pid = os.getpid()

    def begin_shutdown(self, deadline: float) -> None:
        self.log.append(("begin", deadline))
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
def test_all_clients_share_one_deadline_and_begin_before_any_is_waited_for() -> None:
    log: list[tuple[str, float]] = []
    closables = [Last(log, 1.0), Last(log, 30.0), Last(log, 2.0)]
    for closable in closables:
        lifecycle.register(closable)
    before = time.monotonic()

    lifecycle.close_all()

    assert [what for what, _ in log] == ["begin"] * 3 + ["close"] * 3
    [deadline] = {deadline for _, deadline in log}
    assert before + 30 <= deadline <= time.monotonic() + 30
    lifecycle.close_all()
    assert len(log) == 6, "once"


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_an_error_while_closing_one_client_does_not_affect_others(caplog: pytest.LogCaptureFixture) -> None:
    log: list[tuple[str, float]] = []
    closables = [Last(log, fails=True), Last(log), Last(log, fails=True)]
    for closable in closables:
        lifecycle.register(closable)

    lifecycle.close_all()

    assert [what for what, _ in log] == ["begin"] * 3 + ["close"] * 3
    assert "internal error at the end of the process" in caplog.text


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_engines_of_another_process_are_not_closed() -> None:
    log: list[tuple[str, float]] = []
    mine, parents = Last(log), Last(log)
    parents.pid = os.getppid()
    lifecycle.register_engine(mine)
    lifecycle.register_engine(parents)

    lifecycle.close_all()

    assert [what for what, _ in log] == ["begin", "close"]


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_an_unregistered_engine_is_not_closed_again() -> None:
    log: list[tuple[str, float]] = []
    working = Last(log)
    lifecycle.register_engine(working)
    lifecycle.unregister_engine(working)

    lifecycle.close_all()

    assert log == []


@pytest.mark.usefixtures("_nothing_else_to_close")
def test_a_child_of_celery_closes_at_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[Any] = []
    shutdown = SimpleNamespace(connect=lambda handler, *, weak: handlers.append((handler, weak)))
    monkeypatch.setitem(sys.modules, "celery.signals", SimpleNamespace(worker_process_shutdown=shutdown))
    monkeypatch.setattr(lifecycle, "_hooked_pids", {os.getppid()})
    log: list[tuple[str, float]] = []
    client = Last(log)
    lifecycle.register(client)

    [(handler, weak)] = handlers
    assert not weak
    handler(sender=None, signal=None)
    assert [step for step, _ in log] == ["begin", "close"]


def test_a_job_of_rq_is_known_by_the_function_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gunicorn.arbiter", "uwsgi", "billiard.process"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "rq", SimpleNamespace(get_current_job=lambda: None))
    rq: dict[str, Any] = {"__name__": "rq.worker", "check": lifecycle.may_skip_exit_handlers}
    exec("def main_work_horse(): return check()", rq)

    assert rq["main_work_horse"]()
    assert not lifecycle.may_skip_exit_handlers()


# --- SIGTERM --------------------------------------------------------------------------------------

WAIT_FOR_TERM = """
print("ready", flush=True)
while True:
    threading.Event().wait(1)  # the signal may arrive before it waits
"""


@pytest.mark.measured_processes
def test_sigterm_delivers_queued_records_if_installed(server: Server) -> None:
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


@pytest.mark.measured_processes
def test_an_existing_sigterm_handler_is_called_first(server: Server) -> None:
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


@pytest.mark.measured_processes
def test_sigterm_waits_for_a_thread_of_delivery_that_runs_on_the_main_thread(server: Server) -> None:
    """As all threads do where gevent or eventlet has replaced them."""
    script = """
from sessionsight.delivery.lifecycle import install_sigterm
from sessionsight.delivery.dispatch_thread import DispatchThread

def process(batches):
    signal.raise_signal(signal.SIGTERM)
    print(*batches, flush=True)
    dispatch._stopped = True

install_sigterm()
dispatch = DispatchThread(process, print, linger=0)
dispatch.queue._batches.append("batch")
dispatch._run()
"""
    process = start_in_memory(script + WAIT_FOR_TERM, server)

    out, _ = finish(process, code=128 + signal.SIGTERM)

    assert out.startswith("batch\n"), out


def test_no_sigterm_handler_is_installed_by_default(server: Server) -> None:
    out, _ = run(
        "client = make()\ncapture(client, 'a')\nprint(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)", server
    )

    assert out == "True\n"


# --- signal handlers and finalizers ---------------------------------------------------------------


def test_a_signal_handler_may_capture_at_any_point(server: Server) -> None:
    script = """
client = make(queue_records=50)
handled = 0

def handle(number, frame):
    global handled
    handled += 1
    capture(client, "from the handler")
    # Started again here, because handlers within handlers would exceed the recursion limit of a busy machine.
    if handled < 300:
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
mine = 0
while handled < 300:
    mine += 1
    capture(client, "from the loop")
client.flush()
stats = client.stats().lanes["signal"]
assert stats.balanced, stats
assert stats.captured == mine + handled, (stats, mine, handled)
print("done")
"""
    out, _ = run(script, server, covered=False)

    assert out == "done\n"


def test_a_finalizer_may_capture_at_any_point(server: Server) -> None:
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


@pytest.mark.measured_processes
def test_parent_and_forked_child_each_deliver_their_own_records_once(server: Server) -> None:
    script = """
client = make(linger=LONG)
capture(client, "parent before")
pid = os.fork()
if pid == 0:
    assert client.stats().lanes["signal"].captured == 0, "no record of the parent"
    capture(client, "child")
    sys.exit()
reap(pid)
capture(client, "parent after")
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child", "parent after", "parent before"]


@pytest.mark.measured_processes
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


def test_a_call_in_flight_during_a_fork_is_sent_once(server: Server) -> None:
    script = """
client = make()
capture(client, "in flight")
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
    assert names(server) == ["child", "in flight"]


def test_grandchildren_and_siblings_start_with_empty_queues(server: Server) -> None:
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


def test_many_threads_of_a_child_that_capture_at_once_lose_no_record(server: Server) -> None:
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


@pytest.mark.measured_processes
def test_a_child_of_multiprocessing_delivers_without_atexit(server: Server) -> None:
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


def test_the_workers_of_a_multiprocessing_pool_deliver_their_records(server: Server) -> None:
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


@pytest.mark.measured_processes
def test_a_fork_waits_for_the_import_of_the_http_library(server: Server) -> None:
    script = """
importing, forking = threading.Event(), threading.Event()


class Finder:
    def find_spec(self, name, *_):
        if name in ("httpx", "httpx2"):
            importing.set()
            forking.wait(20)


sys.meta_path.insert(0, Finder())
os.register_at_fork(before=forking.set)  # runs before the hooks of sessionsight
client = make(linger=0.0)
capture(client, "parent")
assert importing.wait(20)
pid = os.fork()
if pid == 0:
    capture(client, "child")
    assert client.flush(20)
    os._exit(0)
reap(pid)
"""
    run(script, server)

    assert sorted(names(server)) == ["child", "parent"]


@FORKS
def test_a_fork_while_other_threads_hold_locks_does_not_block_the_child(server: Server, fork: str) -> None:
    script = f"""
client = make(linger=LONG)
capture(client, "parent")
engine = client._engine
lane = engine._lanes["signal"]
held, release = threading.Barrier(2), threading.Event()

def hold():
    with engine._thread._lock, lane._lock, lane._queue._lock, engine._counts_lock, logging.getLogger().handlers[0].lock:
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
def test_the_first_capture_after_a_fork_does_not_log_on_the_request_path(server: Server, fork: str) -> None:
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
    client.analytics.capture("nobody")  # logs a line, because it has no identity
    capture(client, "child")
    assert client.flush(20)
    assert threads == ["sessionsight-dispatcher"], threads
    os._exit(0)
reap(pid)
"""
    assert run(script, server) == ("", "")

    assert names(server) == ["child"]


def test_a_child_opens_its_own_connections(server: Server) -> None:
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
