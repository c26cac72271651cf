from __future__ import annotations

import gzip
import itertools
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from sessionsight.delivery import httpx_transport as module
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits, TransportError, compress
from sessionsight.destinations.base import VendorRequest, VendorResponse
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE, Answer, Server, after, drip, raw, reply, reset, silence

AMPLE = TimeLimits(connect=PATIENCE, read=PATIENCE, total=PATIENCE)
SHORT = TimeLimits(connect=PATIENCE, read=0.1, total=PATIENCE)

MakeTransport = Callable[..., HttpxTransport]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeTransport]:
    made: list[HttpxTransport] = []

    def make(**options: Any) -> HttpxTransport:
        made.append(HttpxTransport(library=request.param, **options))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def call(url: str, *, body: bytes = b"[]", key: str | None = None) -> VendorRequest:
    headers = {} if key is None else {"x-api-key": key}
    return VendorRequest(url=f"{url}/take?x=1", headers=headers, body=body, entries=[event()])


def reply_of(make: MakeTransport, server: Server, limits: TimeLimits = AMPLE, **options: Any) -> VendorResponse:
    return make(**options).send(call(server.url), limits)


def send_in_vain(transport: HttpxTransport, server: Server, errors: list[TransportError]) -> None:
    try:
        transport.send(call(server.url), AMPLE)
    except TransportError as error:
        errors.append(error)


def error_of(make: MakeTransport, url: str, limits: TimeLimits = AMPLE, **options: Any) -> TransportError:
    with pytest.raises(TransportError) as raised:
        make(**options).send(call(url), limits)
    return raised.value


# --- requests and responses -----------------------------------------------------------------------


def test_a_request_is_sent_unchanged_and_its_response_returned(make: MakeTransport, server: Server) -> None:
    server.will(reply(202, {"X-Thing": "Yes"}, b'{"ok":true}'))

    got = make().send(call(server.url, body=b"[1]", key="k"), AMPLE)

    assert (got.status, got.headers["x-thing"], got.body) == (202, "Yes", b'{"ok":true}')
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/take?x=1", b"[1]")
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"sessionsight-python/{metadata.version('sessionsight')}",
        "accept-encoding": "identity",
        "x-api-key": "k",
        "content-length": "3",
    }


def test_a_reply_is_read_up_to_a_bound(make: MakeTransport, server: Server) -> None:
    server.will(reply(200, body=b"x" * 100_000), drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100))
    transport = make(max_response_bytes=1000)

    assert transport.send(call(server.url), AMPLE).body == b"x" * 1000
    assert transport.send(call(server.url), AMPLE).body == b"x" * 1000


def test_a_reply_of_exactly_the_bound_is_complete_and_its_connection_is_kept(
    make: MakeTransport, server: Server
) -> None:
    server.answer = reply(200, body=b"x" * 1000)
    transport = make(max_response_bytes=1000)

    assert [transport.send(call(server.url), AMPLE).body for _ in range(2)] == [b"x" * 1000] * 2
    assert server.connections == 1


def test_connections_are_reused(make: MakeTransport, server: Server) -> None:
    transport = make()
    for status in (200, 503, 400, 200):
        server.will(reply(status))
        assert transport.send(call(server.url), AMPLE).status == status

    assert server.connections == 1


def test_a_redirect_is_a_reply_and_is_not_followed(make: MakeTransport, server: Server) -> None:
    server.will(reply(302, {"Location": f"{server.url}/elsewhere"}))

    got = reply_of(make, server)

    assert got.status == 302
    assert len(server.requests) == 1


def test_cookies_of_a_vendor_are_not_kept(make: MakeTransport, server: Server) -> None:
    server.answer = reply(200, {"Set-Cookie": "id=1"})
    transport = make()
    transport.send(call(server.url), AMPLE)
    transport.send(call(server.url), AMPLE)

    assert "cookie" not in server.requests[1].headers


def test_large_bodies_are_compressed_where_the_vendor_accepts_that() -> None:
    small, large = call("http://x", body=b"x" * 1024), call("http://x", body=b"x" * 1025, key="k")

    assert compress(small, 1024) is small
    assert compress(large, None) is large
    packed = compress(large, 1024)
    assert gzip.decompress(packed.body) == large.body
    assert packed.headers == {"x-api-key": "k", "Content-Encoding": "gzip"}
    assert (packed.url, packed.method, packed.entries) == (large.url, large.method, large.entries)
    assert compress(large, 1024).body == packed.body, "equal for each attempt"


def test_a_compressed_body_arrives(make: MakeTransport, server: Server) -> None:
    make().send(compress(call(server.url, body=b"x" * 5000), 1024), AMPLE)

    assert server.requests[0].headers["content-encoding"] == "gzip"
    assert gzip.decompress(server.requests[0].body) == b"x" * 5000


@pytest.mark.parametrize(
    ("method", "body", "length"), [("DELETE", b"", None), ("POST", b"", "0"), ("POST", b"[]", "2")]
)
def test_a_body_has_its_own_length(
    make: MakeTransport, server: Server, method: str, body: bytes, length: str | None
) -> None:
    transport = make()
    for sent in (body, body * 5000):
        transport.send(VendorRequest(method=method, url=server.url, headers={}, body=sent, entries=()), AMPLE)

    lengths = [request.headers.get("content-length") for request in server.requests]
    assert lengths == [length, str(len(body) * 5000) if body else length]
    assert [request.body for request in server.requests] == [body, body * 5000]


def test_calls_do_not_get_the_address_or_the_headers_of_others(make: MakeTransport, server: Server) -> None:
    transport = make()
    wanted = [
        (method, f"/{path}", key)
        for path in ("goals", "feedback")
        for method in ("POST", "PUT")
        for key in ("one", "two", "\u00fcber", "\u00fc", "two", *map(str, range(10)))
    ]
    for method, path, key in wanted:
        transport.send(
            VendorRequest(method=method, url=server.url + path, headers={"x-api-key": key}, body=b"[]", entries=()),
            AMPLE,
        )

    got = [(request.method, request.target, request.headers["x-api-key"]) for request in server.requests]
    assert got == wanted
    assert server.connections == 1


def test_headers_of_a_reply_are_joined_and_in_lower_case(make: MakeTransport, server: Server) -> None:
    server.will(raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 0\r\nx-a: \xc3\xbc\r\n\r\n"))

    assert make().send(call(server.url), AMPLE).headers == {"x-a": "1, \u00fc", "content-length": "0"}


# --- certainly not sent ---------------------------------------------------------------------------


def test_a_refused_connection_means_not_sent(make: MakeTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert isinstance(error_of(make, f"http://127.0.0.1:{port}"), NotSent)


def test_a_connection_that_takes_too_long_to_open_means_not_sent(make: MakeTransport) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())

        limits = TimeLimits(connect=0.1, read=PATIENCE, total=PATIENCE)
        assert isinstance(error_of(make, f"http://127.0.0.1:{listener.getsockname()[1]}", limits), NotSent)

        for connection in waiting:
            connection.close()


def test_no_free_connection_means_not_sent(make: MakeTransport, server: Server) -> None:
    server.will(silence())
    transport = make(connections=1)
    first = threading.Thread(target=send_in_vain, args=(transport, server, []))
    first.start()
    server.wait_for(1)

    with pytest.raises(NotSent):
        transport.send(call(server.url), TimeLimits(connect=0.05, read=PATIENCE, total=PATIENCE))

    transport.close()
    first.join(PATIENCE)
    assert len(server.requests) == 1


def test_a_failed_name_lookup_means_not_sent(make: MakeTransport) -> None:
    assert isinstance(error_of(make, "http://a..b"), NotSent)


def test_an_error_of_the_interpreters_shutdown_means_not_sent(
    make: MakeTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise RuntimeError("can't fork at interpreter shutdown")

    transport = make()
    with monkeypatch.context() as patches:
        patches.setattr(httpx, "create_ssl_context", refuse)
        patches.setattr(httpx2, "create_ssl_context", refuse)
        with pytest.raises(NotSent, match="can't fork"):
            transport.send(call(server.url), AMPLE)

    assert transport.send(call(server.url), AMPLE).status == 200


def test_transports_share_one_context_of_the_default_certificates(
    make: MakeTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[object] = []
    for library in (httpx, httpx2):
        create = library.create_ssl_context

        def counted(create: Any = create, **options: Any) -> Any:
            created.append(options)
            return create(**options)

        monkeypatch.setattr(library, "create_ssl_context", counted)

    for _ in range(3):
        assert make().send(call(server.url), AMPLE).status == 200
    assert len(created) == 1


# --- unknown outcomes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (reset(), "a reset"),
        (raw(b""), "the end of the connection"),
        (raw(b"HTTP/1.1 2"), "half a status line"),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "garbage"),
        (raw(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "a broken header"),
        (reset(b"HTTP/1.1 200 OK\r\nContent-"), "a reset within the head"),
        (silence(), "silence"),
        (silence(b"HTTP/1.1 200 OK\r\n"), "silence within the head"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_after_the_request_was_written_the_outcome_is_unknown(
    make: MakeTransport, server: Server, answer: Any, what: str
) -> None:
    server.will(answer)

    error = error_of(make, server.url, SHORT if "silence" in what else AMPLE)

    assert isinstance(error, OutcomeUnknown), what
    server.wait_for(1)


def test_the_outcome_is_unknown_after_a_reset_before_the_request_was_read(make: MakeTransport) -> None:
    def hang_up(connection: socket.socket, server: Server) -> bool:
        connection.recv(1, socket.MSG_PEEK)  # it has arrived, and stays unread
        return reset()(connection, server)

    with Server(greeting=hang_up) as server:
        assert isinstance(error_of(make, server.url), OutcomeUnknown)
        assert server.requests == []


def test_the_outcome_is_unknown_after_a_write_timeout(make: MakeTransport) -> None:
    with Server(greeting=silence()) as server, pytest.raises(OutcomeUnknown):
        make().send(call(server.url, body=b"x" * 50_000_000), SHORT)


# --- incomplete responses -------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart"


def test_an_incomplete_body_does_not_change_the_status(make: MakeTransport, server: Server) -> None:
    server.will(raw(HEAD))

    got = reply_of(make, server)

    assert (got.status, got.body) == (200, b"start")


def test_a_body_that_drips_is_read_until_the_time_limit(make: MakeTransport, server: Server) -> None:
    server.will(reply(), drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"))
    transport = make()
    transport.send(call(server.url), AMPLE)  # opens the connection, which the limit below would include

    got = transport.send(call(server.url), TimeLimits(connect=PATIENCE, read=PATIENCE, total=1.0))

    assert got.status == 200
    assert set(got.body) == {ord("x")}


def test_a_missing_body_is_waited_for_until_the_total_time_limit(make: MakeTransport, server: Server) -> None:
    server.will(reply(), silence(HEAD))
    transport = make()
    transport.send(call(server.url), AMPLE)  # opens the connection, which the limit below would include
    replies: list[VendorResponse] = []
    limits = TimeLimits(connect=PATIENCE, read=10 * PATIENCE, total=1.0)
    sender = threading.Thread(target=lambda: replies.append(transport.send(call(server.url), limits)), daemon=True)

    sender.start()
    sender.join(PATIENCE)

    assert [got.body for got in replies] == [b"start"]


# --- invalid calls --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk_live\nX-Evil: 1", "sk_live\r", "sk_live\x00", "sk_live_\u00e9\u4e2d"])
def test_a_key_that_is_not_a_valid_header_is_an_error_that_does_not_contain_it(
    make: MakeTransport, server: Server, key: str
) -> None:
    with pytest.raises(InvalidCall) as raised:
        make().send(call(server.url, key=key), AMPLE)

    assert "sk_live" not in f"{raised.value!r}{raised.value.__cause__!r}"
    assert raised.value.__suppress_context__
    assert server.requests == []


@pytest.mark.parametrize("key", ["sk_live_\u00e9", "sk_live_\xff\xa0\x80", "a\tb"])
def test_a_key_of_latin_1_is_sent_as_fetch_sends_it(make: MakeTransport, server: Server, key: str) -> None:
    make().send(call(server.url, key=key), AMPLE)
    assert server.requests[0].headers["x-api-key"] == key


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://[::1", "nonsense"])
def test_an_invalid_url_is_an_error(make: MakeTransport, url: str) -> None:
    assert isinstance(error_of(make, url), InvalidCall)


def test_a_missing_certificate_file_is_named_in_the_error(make: MakeTransport, server: Server) -> None:
    error = error_of(make, server.url, ca_bundle="/nowhere/ca.pem")

    assert isinstance(error, InvalidCall)
    assert "/nowhere/ca.pem" in str(error)


def test_an_invalid_proxy_url_is_an_error_without_its_password(make: MakeTransport, server: Server) -> None:
    error = error_of(make, server.url, proxy="gopher://user:geheim@127.0.0.1:1")

    assert isinstance(error, InvalidCall)
    assert "proxy" in str(error)
    assert "geheim" not in str(error)


# --- every error of httpx -------------------------------------------------------------------------

NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"}
UNSENDABLE = {"LocalProtocolError", "UnsupportedProtocol"}


def tree(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize(
    "error",
    [error for library in (httpx, httpx2) for error in tree(library.TransportError)],
    ids=lambda error: f"{error.__module__.partition('.')[0]}-{error.__name__}",
)
@pytest.mark.parametrize("started", [False, True], ids=["before", "after"])
def test_every_httpx_error_is_mapped(error: type[Exception], started: bool) -> None:
    library = sys.modules[error.__module__.partition(".")[0]]
    expected: type[TransportError] = OutcomeUnknown if started else NotSent
    if error.__name__ in NOT_SENT:
        expected = NotSent
    elif error.__name__ in UNSENDABLE:
        expected = InvalidCall

    mapped = module._transport_error(library, error.__new__(error), request_started=started)

    assert type(mapped) is expected


def test_the_lists_of_httpx_errors_name_errors_that_exist() -> None:
    for library in (httpx, httpx2):
        assert {error.__name__ for error in tree(library.TransportError)} >= NOT_SENT | UNSENDABLE


def test_any_other_exception_is_mapped() -> None:
    assert type(module._transport_error(httpx, UnicodeError(), request_started=False)) is NotSent
    assert type(module._transport_error(httpx, UnicodeError(), request_started=True)) is OutcomeUnknown


# --- closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 2], ids=["new", "reused"])
@pytest.mark.parametrize("answer", [silence(), drip(b"HTTP/1.1 200 OK\r\n", b"x-y: z\r\n")], ids=["silent", "dripping"])
def test_closing_aborts_waiting_calls_and_later_calls_work(
    make: MakeTransport, server: Server, answer: Any, earlier: int
) -> None:
    server.will(*[reply()] * earlier, answer)
    transport = make()
    errors: list[TransportError] = []
    for _ in range(earlier):
        transport.send(call(server.url), AMPLE)
    waiting = threading.Thread(target=send_in_vain, args=(transport, server, errors))
    waiting.start()
    server.wait_for(earlier + 1)
    assert server.connections == 1

    transport.close()

    waiting.join(PATIENCE)
    assert [type(error) for error in errors] == [OutcomeUnknown]
    assert transport.send(call(server.url), AMPLE).status == 200


def test_closing_leaves_no_connection_open(make: MakeTransport, server: Server) -> None:
    transport = make(connections=4)
    gate = threading.Barrier(4)
    server.will(*[after(gate, reply(200)) for _ in range(4)])
    senders = [threading.Thread(target=transport.send, args=(call(server.url), AMPLE)) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(PATIENCE)
    assert server.connections == 4

    transport.close()

    server.wait_until(lambda: not server._open, "the end of all connections")


def test_a_call_whose_connection_opens_too_late_is_not_sent(make: MakeTransport, server: Server) -> None:
    transport = make()
    error = None
    try:
        transport.send(call(server.url), TimeLimits(connect=PATIENCE, read=PATIENCE, total=-1.0))
    except TransportError as raised:
        error = raised

    assert error is not None
    assert server.requests == []


def test_connections_may_be_opened_while_others_are_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        pass

    monkeypatch.setattr(module, "_shutdown", lambda connection: None)
    pool, over = module._Pool(None), threading.Event()
    opened: Any = [Connection() for _ in range(200)]
    for connection in opened:
        pool.add_socket(connection)

    def connect() -> None:
        while not over.is_set():
            more: Any = [Connection() for _ in range(50)]
            for connection in more:
                pool.add_socket(connection)

    threads = [threading.Thread(target=connect) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(2_000):
            pool.shutdown_sockets()
    finally:
        over.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Server(tls=context) as server:
        yield server


def test_an_untrusted_certificate_means_not_sent(make: MakeTransport, secure: Server) -> None:
    error = error_of(make, secure.url)

    assert isinstance(error, NotSent)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert secure.requests == []


def test_a_custom_ca_bundle_is_trusted(make: MakeTransport, secure: Server, certificate: tuple[Path, Path]) -> None:
    transport = make(ca_bundle=str(certificate[0]))

    assert [transport.send(call(secure.url), AMPLE).status for _ in range(2)] == [200, 200]
    assert secure.connections == 1


def test_the_environments_certificates_are_used_if_trusted(
    make: MakeTransport, secure: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    assert make().send(call(secure.url), AMPLE).status == 200
    assert isinstance(error_of(make, secure.url, trust_env=False), NotSent)


def test_closing_aborts_a_call_that_waits_for_a_reply_over_tls(
    make: MakeTransport, secure: Server, certificate: tuple[Path, Path]
) -> None:
    secure.will(silence())
    transport = make(ca_bundle=str(certificate[0]))
    errors: list[TransportError] = []
    waiting = threading.Thread(target=send_in_vain, args=(transport, secure, errors))
    waiting.start()
    secure.wait_for(1)

    transport.close()

    waiting.join(PATIENCE)
    assert [type(error) for error in errors] == [OutcomeUnknown]


def test_plain_http_to_a_tls_port_is_unknown_and_the_reverse_is_not_sent(make: MakeTransport, secure: Server) -> None:
    assert isinstance(error_of(make, secure.url.replace("https:", "http:")), OutcomeUnknown)
    with Server(greeting=raw(b"220 mail.example ESMTP\r\n")) as plain:
        assert isinstance(error_of(make, plain.url.replace("http:", "https:")), NotSent)


# --- proxies --------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_a_configured_proxy_is_used(make: MakeTransport, server: Server, proxy: Server) -> None:
    assert reply_of(make, server, proxy=proxy.url).status == 200

    assert [request.target for request in proxy.requests] == [f"{server.url}/take?x=1"]
    assert server.requests == []


@pytest.mark.parametrize("setting", ["http_proxy=http://{}", "HTTP_PROXY={}", "all_proxy=http://{}", "ALL_PROXY={}"])
def test_a_proxy_of_the_environment_is_used(
    make: MakeTransport, server: Server, proxy: Server, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, _, form = setting.partition("=")
    monkeypatch.setenv(variable, form.format(f"127.0.0.1:{proxy.port}"))

    reply_of(make, server)

    assert (len(proxy.requests), len(server.requests)) == (1, 0)


@pytest.mark.parametrize("form", ["127.0.0.1", "127.0.0.1:{}", "other.example, 127.0.0.1", "*"])
def test_hosts_in_no_proxy_are_called_directly(
    make: MakeTransport, server: Server, proxy: Server, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", form.format(server.port))

    reply_of(make, server)

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize("rest", ["", "?x=1", "#top"])
def test_no_proxy_is_obeyed_for_a_url_without_a_path(
    make: MakeTransport, server: Server, proxy: Server, rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{server.port}")

    make().send(VendorRequest(url=f"{server.url}{rest}", headers={}, body=b"[]", entries=()), AMPLE)

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize("form", ["127.0.0.2", "127.0.0.1:1", "example.com"])
def test_hosts_not_in_no_proxy_are_called_through_the_proxy(
    make: MakeTransport, server: Server, proxy: Server, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", form)

    reply_of(make, server)

    assert (len(proxy.requests), len(server.requests)) == (1, 0)


def test_the_environment_is_ignored_where_it_is_not_trusted(
    make: MakeTransport, server: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)

    reply_of(make, server, trust_env=False)

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


def test_a_proxy_that_refuses_the_tunnel_means_not_sent(make: MakeTransport, secure: Server, proxy: Server) -> None:
    proxy.will(reply(407))

    error = error_of(make, secure.url, proxy=proxy.url.replace("//", "//user:geheim@"))

    assert isinstance(error, NotSent)
    assert "407" in str(error)
    assert "geheim" not in str(error)
    assert [(request.method, request.target) for request in proxy.requests] == [("CONNECT", f"127.0.0.1:{secure.port}")]
    assert secure.requests == []


def tunnel_to(target: Server) -> Answer:
    def tunnel(connection: socket.socket, _: Server) -> bool:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", target.port)) as beyond:
            pump = threading.Thread(target=_pump, args=(beyond, connection), daemon=True)
            pump.start()
            _pump(connection, beyond)
            pump.join(PATIENCE)
        return False

    return tunnel


def test_calls_are_sent_through_a_tunnel(make: MakeTransport, secure: Server, certificate: tuple[Path, Path]) -> None:
    with Server(answer=tunnel_to(secure)) as proxy:
        transport = make(ca_bundle=str(certificate[0]), proxy=proxy.url)
        got = [transport.send(call(secure.url), AMPLE).status for _ in range(2)]

    assert got == [200, 200]
    assert (len(secure.requests), secure.connections, proxy.connections) == (2, 1, 1)


def test_closing_aborts_a_call_that_waits_for_a_reply_through_a_tunnel(
    make: MakeTransport, secure: Server, certificate: tuple[Path, Path]
) -> None:
    secure.will(silence())
    errors: list[TransportError] = []
    with Server(answer=tunnel_to(secure)) as proxy:
        transport = make(ca_bundle=str(certificate[0]), proxy=proxy.url)
        waiting = threading.Thread(target=send_in_vain, args=(transport, secure, errors))
        waiting.start()
        secure.wait_for(1)

        transport.close()

        waiting.join(PATIENCE)
    assert [type(error) for error in errors] == [OutcomeUnknown]


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


# --- not instrumented -----------------------------------------------------------------------------


def test_opentelemetry_does_not_instrument_our_calls(
    make: MakeTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = pytest.importorskip("opentelemetry.context")
    seen: list[dict[str, object]] = []
    entered = module._CallTrace.on_event

    def trace(call: module._CallTrace, name: str, info: dict[str, Any]) -> None:
        seen.append(dict(context.get_current()))
        entered(call, name, info)

    monkeypatch.setattr(module._CallTrace, "on_event", trace)
    reply_of(make, server)

    assert seen
    for marks in seen:
        assert marks["suppress_instrumentation"] is True
        assert marks["suppress_http_instrumentation"] is True
        assert marks[context._SUPPRESS_INSTRUMENTATION_KEY] is True
        assert marks[context._SUPPRESS_HTTP_INSTRUMENTATION_KEY] is True
    assert not dict(context.get_current())


def test_a_call_is_sent_with_an_incompatible_opentelemetry(
    make: MakeTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.context", ModuleType("opentelemetry.context"))

    assert reply_of(make, server).status == 200


def test_monitoring_that_wraps_httpx_clients_does_not_see_our_calls(
    make: MakeTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrapped(*_: object, **__: object) -> None:
        raise AssertionError("a client was used")

    for library, name in itertools.product((httpx, httpx2), ("__init__", "send", "request")):
        monkeypatch.setattr(library.Client, name, wrapped)

    assert reply_of(make, server).status == 200


# --- which library --------------------------------------------------------------------------------


def test_httpx2_is_preferred_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.http_library() is httpx2

    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert module.http_library() is httpx

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match="pip install httpx"):
        module.http_library()


def test_time_limits_are_bounded_by_the_shutdown_deadline() -> None:
    limits = TimeLimits(connect=5, read=10, total=30)

    assert limits.within(float("inf")) == limits
    assert limits.within(7) == TimeLimits(connect=5, read=7, total=7)
    assert limits.within(-1).total > 0


def test_without_an_installed_distribution_the_user_agent_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert module._user_agent.__wrapped__() == "sessionsight-python/0"
