"""A fork within a request or a scope: parent and child each deliver their own records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.delivery.processes import names, run
from tests.support.server import Server

pytestmark = pytest.mark.processes

SCRIPT = """
from sessionsight.capture.scope import RequestScope
import sessionsight
from sessionsight import Analytics, TrackingContext
from tests.core.box import Visit

def in_os_fork(work):
    if (pid := os.fork()) == 0:
        work()
        os._exit(0)
    reap(pid)

def in_multiprocessing(work):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""
REQUEST = """
analytics = Analytics(RequestScope(client, Visit(user="user_1")))
if BEFORE:
    analytics.capture("before")
fork(work)
analytics.capture("after")
analytics._scope.end()
analytics._scope.close()
"""
SCOPE = """
with client.scope(TrackingContext(user_id="user_1")) as analytics:
    if BEFORE:
        analytics.capture("before")
    fork(work)
    analytics.capture("after")
"""
# The child's code, and the records that it delivers.
CHILD = {
    "captures": ("analytics.capture('child')", ["child"]),
    "captures much": ("[analytics.capture('child') for _ in range(120)]; analytics.flush()", ["child"] * 120),
    "flushes": ("analytics.flush()", []),
    "ends": ("analytics._scope.end(); analytics._scope.close()", []),
    "discards": ("analytics.discard(); analytics.capture('child')", ["child"]),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize(
    ("child", "parent", "fork", "before"),
    [
        *((child, REQUEST, "in_os_fork", True) for child in CHILD),
        ("captures", REQUEST, "in_os_fork", False),
        ("captures", REQUEST, "in_multiprocessing", True),
        ("captures much", REQUEST, "in_multiprocessing", True),
        ("captures", SCOPE, "in_os_fork", True),
        ("captures", SCOPE, "in_multiprocessing", False),
    ],
)
def test_each_record_is_delivered_once(child: str, parent: str, fork: str, before: bool, server: Server) -> None:
    does, arrives = CHILD[child]
    options = f"fork = {fork}\nBEFORE = {before}\nwork = lambda: exec({does!r}, globals())\n"

    assert run(SCRIPT + "client = make()\n" + options + parent, server) == ("", "")
    assert names(server) == sorted(["after", *(["before"] if before else []), *arrives])


def test_each_record_is_delivered_once_with_a_durable_spool(server: Server, tmp_path: Path) -> None:
    does, arrives = CHILD["captures much"]
    options = f"fork = in_os_fork\nBEFORE = True\nwork = lambda: exec({does!r}, globals())\n"

    assert run(SCRIPT + f"client = make(spool='sqlite:///{tmp_path}/spool.db')\n" + options + REQUEST, server) == (
        "",
        "",
    )
    assert names(server) == ["after", "before", *arrives]


@pytest.mark.measured_processes
def test_the_child_does_not_count_the_parents_records(server: Server) -> None:
    script = """
client = make()
analytics = Analytics(RequestScope(client, Visit(user="user_1")))
analytics.capture("before")

def work():
    analytics.discard()
    analytics.capture("child")
    client.flush()
    lane = client.stats().lanes["signal"]
    print(lane.captured, lane.delivered, flush=True)

in_os_fork(work)
analytics._scope.end()
client.flush()
print(client.stats().lanes["signal"].captured)
"""
    assert run(SCRIPT + script, server) == ("1 1\n1\n", "")


@pytest.mark.measured_processes
def test_the_child_leaves_what_is_unfinished_to_the_parent(server: Server) -> None:
    script = """
client = make(pageviews=True)
browser = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "User-Agent": "Mozilla/5.0 Chrome/140.0"}
page = RequestScope(client, Visit({"method": "GET", "path": "/", "headers": browser}, user="user_1"))
page.response_started("GET", 200, "text/html")
stream = RequestScope(client, Visit(user="user_1"))
Analytics(stream).capture("before")

def fail(scope):
    raise LookupError("not in the child")

failing = RequestScope(client, Visit(user="user_1"))
failing.bind_request(Visit(user="user_1"), can_read_user=fail)

def work():
    page.close()
    stream.submit_now()
    failing.submit_now()
    Analytics(failing).capture("child", user_id="user_1")
    client.flush()
    print(client.stats().rejected, flush=True)

in_os_fork(work)
for scope in (page, stream):
    scope.end()
    scope.close()
"""
    assert run(SCRIPT + script, server)[0] == "1\n"
    assert names(server) == ["$pageview", "before", "child"]


@pytest.mark.measured_processes
def test_two_threads_of_a_child_deliver_through_one_engine(server: Server) -> None:
    script = """
from sessionsight.delivery.httpx_transport import HttpxTransport

parent, nested = os.getpid(), []

def make_transport(destination):
    if os.getpid() != parent and not nested:
        nested.append(threading.Thread(target=capture, args=(client, "from the quicker thread")))
        nested[0].start()
        nested[0].join()
    return HttpxTransport(trust_env=False)

client = Client(
    Settings(destinations=(Signal(api_key="key", endpoint=URL),), shutdown_timeout=20.0), make_transport=make_transport
)

def work():
    capture(client, "from the slower thread")
    assert client.flush(20)
    print(client.stats().lanes["signal"].delivered, len(client._engines_by_pid), flush=True)

in_os_fork(work)
"""
    assert run(SCRIPT + script, server) == ("2 1\n", "")
    assert names(server) == ["from the quicker thread", "from the slower thread"]


@pytest.mark.measured_processes
def test_a_child_with_inline_flush_waits_for_its_own_records_only(server: Server) -> None:
    script = """
client = make(flush="inline", flush_timeout=LONG)
analytics = Analytics(RequestScope(client, Visit(user="user_1")))
analytics.capture("before")

def work():
    analytics.capture("child")
    analytics._scope.end_before_last_byte()
    analytics._scope.close()

in_os_fork(work)
analytics._scope.end_before_last_byte()
"""
    assert run(SCRIPT + script, server) == ("", "")
    assert names(server) == ["before", "child"]


@pytest.mark.measured_processes
def test_a_transaction_that_was_open_at_the_fork_belongs_to_the_parent(server: Server) -> None:
    script = """
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sessionsight.sqlalchemy import bind

client = make()
session = Session(create_engine("sqlite://"))
bind(session)
ended = client.bind(user_id="user_1")
unused = client.bind(user_id="user_1")

def work():
    session.close()
    session.begin()
    ended.capture("child")
    unused.capture("child as well")
    session.commit()
    client.flush()
    lane = client.stats().lanes["signal"]
    print(lane.captured, lane.delivered, flush=True)

session.begin()
ended.capture("before")
unused.capture("before as well")
in_os_fork(work)
session.commit()
client.flush()
"""
    assert run(SCRIPT + script, server) == ("2 2\n", "")
    assert names(server) == ["before", "before as well", "child", "child as well"]
