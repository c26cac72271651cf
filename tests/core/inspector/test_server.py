import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest

from sessionsight.errors import ConfigurationError
from sessionsight.inspector.fault_injection import Faults
from sessionsight.inspector.options import Options
from sessionsight.inspector.server import run_in_thread
from tests.core.inspector.calls import SECRET, SIGNAL, batch, capture, goal
from tests.support.server import until


def test_it_answers_as_soon_as_it_is_there_and_not_after_its_stop() -> None:
    with run_in_thread() as inspector:
        assert httpx.get(f"{inspector.url}/api/counts", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(inspector.url, trust_env=False)
    inspector.stop()


def test_stopping_ends_streams_and_those_who_wait() -> None:
    with ThreadPoolExecutor(2) as pool:
        with run_in_thread() as inspector:
            paths = ("/api/stream", "/api/wait?timeout=60")
            waiting = [pool.submit(httpx.get, f"{inspector.url}{path}", timeout=60, trust_env=False) for path in paths]
            until(lambda: len(inspector.store._listeners) == 2, "both wait")
        stream, wait = (future.result(30) for future in waiting)
    assert stream.text == "retry: 1000\n\n"
    assert wait.json() == {"count": 0, "reached": False}
    assert not inspector._thread.is_alive()


def test_a_reply_is_sent_without_waiting_for_an_acknowledgement() -> None:
    with run_in_thread() as inspector, httpx.Client(base_url=inspector.url, trust_env=False) as http:
        http.get("/api/counts").raise_for_status()
        (connection,) = inspector._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_stopping_closes_a_connection_that_uvicorn_leaves_open() -> None:
    late = Mock()
    inspector = run_in_thread()
    inspector._server.config.timeout_graceful_shutdown = 0
    inspector._server.server_state.connections.add(late)

    inspector.stop()

    late.transport.abort.assert_called_once_with()


def test_a_taken_port_is_told_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            run_in_thread(Options(port=port))


def test_wrong_faults_are_told_before_it_starts() -> None:
    with pytest.raises(ConfigurationError, match="fail: must be written as"):
        run_in_thread(Options(port=0, faults=Faults(fail="x")))


def test_a_file_that_is_not_a_database_is_reported_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes. " * 100)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        run_in_thread(Options(port=0, db=str(path)))
    assert path.read_text() == "These are notes. " * 100


def test_only_keys_that_were_given_are_taken() -> None:
    options = Options(port=0, keys={"signal": frozenset({"signal_key_2"})})
    with run_in_thread(options) as inspector, httpx.Client(base_url=inspector.url, trust_env=False) as http:
        assert http.post("/v1/capture", json=batch(capture()), headers=SIGNAL).status_code == 401
        right = {"x-api-key": "signal_key_2"}
        assert http.post("/v1/capture", json=batch(capture()), headers=right).status_code == 200
        assert http.post("/v1/goals/increment", json=goal(), headers=SECRET).status_code == 200


def test_a_file_survives_the_inspector(tmp_path: Path) -> None:
    options = Options(port=0, db=str(tmp_path / "inspector.db"))
    for expected in (1, 2):
        with run_in_thread(options) as inspector:
            httpx.post(f"{inspector.url}/v1/goals/increment", json=goal(), headers=SECRET, trust_env=False)
            assert inspector.store.counts().total == expected


def test_it_listens_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with run_in_thread(Options(port=0, host="::1")) as inspector:
        assert inspector.url.startswith("http://[::1]:")
        assert httpx.get(f"{inspector.url}/api/counts", trust_env=False).status_code == 200
