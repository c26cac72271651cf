"""Calls about feature flags: how long anybody waits, and when nobody does."""

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight.capture.interfaces import FlagValue
from sessionsight.delivery.flags import FlagCircuit, FlagService, PendingCall
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.destinations import SessionSight
from sessionsight.destinations.base import VendorRequest
from sessionsight.destinations.sessionsight_flags import evaluation_request, read_evaluation
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.delivery.processes import FORKS, run
from tests.support.ports import free_port
from tests.support.server import Server, after, reply, silence, until

ON = b'{"flags": {"on": {"value": true, "type": "boolean"}}}'


class Clock:
    """The circuit's time in seconds, which a test advances."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asking:
    """A circuit, and its clock."""

    def __init__(self, url: str, **options: Any) -> None:
        given = {"secret_api_key": "sessionsight_sec_1", "property_id": "shop", "flags_timeout": 10.0, **options}
        self.clock = Clock()
        self.circuit = FlagCircuit(
            SessionSight(api_url=url, **given), HttpxTransport(), DeliveryOptions(), ThrottledLogger(), self.clock
        )

    def start(self) -> PendingCall[dict[str, FlagValue]]:
        return self.circuit.call(build, read_evaluation, {})

    def __call__(self) -> dict[str, FlagValue]:
        return self.start().wait()


def build(destination: SessionSight) -> VendorRequest:
    return evaluation_request(destination, EMPTY_CONTEXT, {})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(answer=reply(200, body=ON)) as server:
        yield server


def test_connections_are_kept_and_the_answer_is_read(server: Server) -> None:
    ask = Asking(server.url)
    assert [ask(), ask()] == [{"on": True}] * 2
    assert server.connections == 1


def test_a_silent_vendor_costs_a_few_waits_and_then_a_call_now_and_then(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    ask = Asking(server.url, flags_timeout=0.05)
    server.answer = silence()
    assert [ask() for _ in range(3)] == [{}] * 3
    message = "sessionsight: no feature flags, so defaults are used: "
    until(lambda: message in caplog.text, "a failure is logged")
    server.wait_until(lambda: server.connections == 3, "the calls have arrived")
    seen = server.connections
    assert [ask() for _ in range(100)] == [{}] * 100  # nobody waits
    assert server.connections == seen
    ask.clock.now += 5.0
    assert ask() == {}  # a probe
    assert ask() == {}  # nobody waits again
    server.wait_until(lambda: server.connections == seen + 1, "a probe")
    ask.clock.now += 9.9
    assert ask() == {}
    assert server.connections == seen + 1


def test_a_probe_that_succeeds_closes_the_circuit(server: Server) -> None:
    ask = Asking(server.url)
    server.will(reply(500), reply(502), reply(200, body=b"not JSON"))
    assert [ask() for _ in range(4)] == [{}] * 4
    assert len(server.requests) == 3
    ask.clock.now += 5.0
    assert [ask() for _ in range(3)] == [{"on": True}] * 3


def test_only_one_caller_probes_at_a_time(server: Server) -> None:
    ask = Asking(server.url)
    server.will(reply(500), reply(500), reply(500))
    assert [ask() for _ in range(3)] == [{}] * 3
    ask.clock.now += 5.0
    answered = threading.Event()
    server.will(after(answered, reply(200, body=ON)))
    probe = ask.start()
    assert ask() == {}
    answered.set()
    assert probe.wait() == {"on": True}


def test_an_answer_after_the_deadline_changes_nothing(server: Server) -> None:
    ask = Asking(server.url, flags_timeout=0.05)
    late = threading.Event()
    server.answer = after(late, reply(200, body=ON))
    first = ask.start()
    assert first.wait() == {}
    late.set()
    assert (first.done, first.wait()) == (True, {})


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ([reply(401, body=b'{"error": {"message": "no such key"}}')], "no such key; check secret_api_key"),
        ([reply(404)], "HTTP 404; check secret_api_key, property_id and api_url"),
    ],
)
def test_a_rejected_key_pauses_the_calls(
    server: Server, answers: list[Any], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask = Asking(server.url)
    server.will(*answers)
    assert [ask(), ask()] == [{}, {}]
    assert len(server.requests) == 1
    until(lambda: cause in caplog.text, "its thread has logged the cause")
    ask.clock.now += DeliveryOptions().pause_interval
    assert ask() == {"on": True}


def test_retry_after_is_obeyed(server: Server) -> None:
    ask = Asking(server.url)
    server.will(reply(429, {"Retry-After": "30"}))
    assert [ask(), ask()] == [{}, {}]
    assert len(server.requests) == 1
    ask.clock.now += 30.0
    assert ask() == {"on": True}


def failing() -> str:
    raise ValueError("sessionsight_sec_1")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({}, "ConnectError"),
        ({"secret_api_key": failing}, "the function for the key failed with ValueError; check secret_api_key"),
    ],
)
def test_a_vendor_that_cannot_be_asked_leaves_the_defaults(
    options: dict[str, Any], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert Asking(f"http://127.0.0.1:{free_port()}", **options)() == {}
    until(lambda: cause in caplog.text, "its thread has logged the cause")
    assert "sessionsight_sec_1" not in caplog.text


async def test_a_coroutine_stops_waiting_too(server: Server) -> None:
    server.answer = silence()
    ask = Asking(server.url, flags_timeout=0.05)
    call = ask.start()
    assert await call.wait_async() == {}
    assert await call.wait_async() == {}


def test_a_host_without_threads_calls_on_its_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
    called: list[str] = []

    def key() -> str:
        called.append(threading.current_thread().name)
        return "sessionsight_sec_1"

    call = Asking(server.url, secret_api_key=key).start()
    assert (call.done, call.wait()) == (True, {"on": True})
    assert called[0] == threading.current_thread().name


def test_an_interpreter_that_shuts_down_has_the_defaults(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    ask = Asking(server.url)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert ask() == {}
    assert "no thread can be started" in caplog.text


def test_connections_are_closed_with_the_service(server: Server) -> None:
    destination = SessionSight(
        secret_api_key="sessionsight_sec_1", property_id="shop", api_url=server.url, flags_timeout=10.0
    )
    service = FlagService([destination], DeliveryOptions(), ThrottledLogger())
    assert service.evaluate(EMPTY_CONTEXT, {}, None).wait() == {"on": True}
    until(lambda: not [one for one in threading.enumerate() if one.name == "sessionsight-flags"], "its thread ends")
    del service
    server.wait_until(lambda: not server._open, "the connection is closed")


@FORKS
@pytest.mark.processes
@pytest.mark.measured_processes
def test_a_forked_child_asks_by_a_connection_of_its_own(server: Server, fork: str) -> None:
    script = f"""
shop = SessionSight(secret_api_key="key", property_id="shop", api_url=URL, flags_timeout=10.0)
client = Client(Settings(destinations=(shop,), trust_env=False))

def ask():
    assert client.bind().flags.get("on") is True

ask()
began = time.monotonic()
pid = {fork}()
if pid == 0:
    ask()
    del client
    gc.collect()
    os._exit(0)
reap(pid)
if time.monotonic() - began < 3:  # the parent keeps its connection for 4 s
    ask()
"""
    assert run(script, server) == ("", "")
    assert [request.connection for request in server.requests][:3] in ([0, 1, 0], [0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environment": " "}, "environment must be the name of an environment"),
        ({"flags_timeout": 0}, "flags_timeout must be above 0 and at most 10 seconds, not 0"),
        ({"flags_timeout": float("nan")}, "flags_timeout must be above 0"),
        ({"flags_timeout": 11}, "flags_timeout must be above 0"),
    ],
)
def test_wrong_options_are_told_at_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SessionSight(secret_api_key="k", property_id="p", **options)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"flags": null}', {}),
        (b"{}", {}),
        (b'{"flags": {"a": null, "b": {"value": 1, "type": "boolean"}, "c": {"value": "x", "type": ["string"]}}}', {}),
        (b'{"flags": {"d": {"value": "x", "type": "string"}}, "evaluationToken": "t"}', {"d": "x"}),
    ],
)
def test_flags_without_a_value_of_their_type_are_left_out(body: bytes, values: dict[str, Any]) -> None:
    assert read_evaluation(body) == values
