from __future__ import annotations

import contextvars
import io
import threading
import wsgiref.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client as Browser
from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import FileWrapper

from sessionsight import ConfigurationError, Settings, current
from sessionsight.capture.current import default_client, get_current
from sessionsight.wsgi import AnalyticsMiddleware
from tests.adapters.recording import COOKIE, Recorder, environ

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def answering(body: Iterable[bytes], headers: dict[str, str] | None = None) -> App:
    """An app that captures one event and has this body."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        start_response("200 OK", list((headers or {}).items()))
        return body

    return app


def begin(app: App, recorder: Recorder, **more: Any) -> Any:
    """Response that the server gets from the app."""
    return AnalyticsMiddleware(app, recorder.client)(environ(**more), lambda *_: lambda _: None)


class Closable:
    """A body that tells what was done to it."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        current().capture("closing")
        self.closed += 1


# --- The end of the response ---------------------------------------------------------------------


def test_records_are_handed_over_when_the_last_chunk_has_gone(recorder: Recorder) -> None:
    body = begin(answering(iter([b"a", b"b"])), recorder)
    chunks = iter(body)
    assert (next(chunks), recorder.handed_over) == (b"a", 0)
    assert (next(chunks), recorder.handed_over) == (b"b", 0)
    assert (next(chunks, None), recorder.handed_over) == (None, 1)
    body.close()
    assert recorder.names() == ["seen"]


def test_a_response_that_is_closed_early_ends_as_well(recorder: Recorder) -> None:
    inner = Closable(b"a", b"b")
    body = begin(answering(inner), recorder)
    next(iter(body))
    body.close()
    assert inner.closed == 1
    assert recorder.names() == ["seen", "closing"]


def test_a_response_that_is_never_iterated_ends_when_it_is_closed(recorder: Recorder) -> None:
    begin(answering([]), recorder).close()
    assert recorder.names() == ["seen"]


def test_chunks_and_close_run_under_the_requests_analytics(recorder: Recorder) -> None:
    def chunks() -> Iterator[bytes]:
        current().capture("chunk")
        yield b"a"

    class Body(Closable):
        def __iter__(self) -> Iterator[bytes]:
            current().capture("begun")
            return chunks()

    with begin_and_close(answering(Body()), recorder) as body:
        assert list(body) == [b"a"]
    assert recorder.names() == ["seen", "begun", "chunk", "closing"]
    assert current() is not None
    current().capture("outside", user_id="user_1")
    assert recorder.users() == [None, None, None, None, "user_1"]


def begin_and_close(app: App, recorder: Recorder) -> Any:
    from contextlib import closing

    return closing(begin(app, recorder))


def test_a_scope_that_a_body_has_opened_lasts_until_its_end(recorder: Recorder) -> None:
    def chunks() -> Iterator[bytes]:
        with recorder.client.scope(user_id="user_1"):
            for _ in range(2):
                current().capture("for_another")
                yield b"a"
        current().capture("for_the_visitor")
        yield b"b"
        with recorder.client.scope(user_id="user_2"):
            yield b"c"  # closed here

    with begin_and_close(answering(chunks()), recorder) as body:
        parts = iter(body)
        for _ in range(4):
            next(parts)
            assert get_current() is None
    assert dict(zip(recorder.names(), recorder.users(), strict=True)) == {
        "seen": None, "for_another": "user_1", "for_the_visitor": None
    }  # fmt: skip
    assert recorder.names().count("for_another") == 2


def test_every_chunk_may_be_made_in_another_thread(recorder: Recorder) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            current().capture("chunk")
            yield b"a"

    body = begin(answering(chunks()), recorder)
    for _ in range(4):
        thread = threading.Thread(target=next, args=(iter(body), None))
        thread.start()
        thread.join()
    body.close()
    assert recorder.names() == ["seen", "chunk", "chunk", "chunk"]


def test_captures_after_the_end_are_handed_over_at_once(recorder: Recorder) -> None:
    request = environ()
    body: Any = AnalyticsMiddleware(answering([b"a"]), recorder.client)(request, lambda *_: lambda _: None)
    list(body)
    body.close()
    request["sessionsight.analytics"].capture("later")
    assert recorder.handed_over == 2
    assert recorder.events()[1]["url"] == "http://shop.example/orders/1"


def test_an_exception_of_the_app_keeps_what_was_captured(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        raise LookupError

    with pytest.raises(LookupError):
        begin(app, recorder)
    assert recorder.names() == ["seen"]


def test_an_exception_in_the_stream_keeps_what_was_captured(recorder: Recorder) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise LookupError

    body = begin(answering(chunks()), recorder)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    assert recorder.names() == ["seen"]


def test_an_exception_in_close_passes_and_keeps_what_was_captured(recorder: Recorder) -> None:
    class Body(Closable):
        def close(self) -> None:
            raise LookupError

    body = begin(answering(Body(b"a")), recorder)
    with pytest.raises(LookupError):
        body.close()
    assert recorder.names() == ["seen"]


def test_a_list_keeps_its_length_for_the_servers_content_length(recorder: Recorder) -> None:
    assert len(begin(answering([b"abc"]), recorder)) == 1
    assert not hasattr(begin(answering(iter([b"abc"])), recorder), "__len__")


def test_apps_may_be_generators_that_start_their_response_late(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        start_response("200 OK", [])
        yield b"a"

    assert list(run_wsgi_app(AnalyticsMiddleware(app, recorder.client), environ(), buffered=True)[0]) == [b"a"]
    assert recorder.names() == ["seen"]


def test_the_old_write_function_works(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        current().capture("seen")
        write(b"written ")
        return [b"returned"]

    browser = Browser(AnalyticsMiddleware(app, recorder.client), use_cookies=False)
    assert browser.get("/", headers={"Cookie": COOKIE}).data == b"written returned"
    assert recorder.names() == ["seen"]


def test_the_middleware_keeps_to_the_letter_of_wsgi(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        current().capture("seen")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    strict = validator(AnalyticsMiddleware(validator(app), recorder.client))
    response = Browser(strict, use_cookies=False).get("/", headers={"Cookie": COOKIE}, buffered=True)
    assert response.data == b"ok"
    assert recorder.names() == ["seen"]


# --- Files that the server sends -------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [wsgiref.util.FileWrapper, FileWrapper], ids=["wsgiref", "werkzeug"])
def test_a_servers_file_wrapper_is_left_as_it_is_and_ends_when_it_is_closed(wrapper: Any, recorder: Recorder) -> None:
    file = io.BytesIO(b"content")
    wrapped = wrapper(file)
    body = begin(answering(wrapped), recorder, **{"wsgi.file_wrapper": wrapper})
    assert body is wrapped
    assert recorder.handed_over == 0
    body.close()
    assert file.closed
    assert recorder.names() == ["seen"]


def test_a_file_wrapper_without_a_close_ends_the_request_all_the_same(recorder: Recorder) -> None:
    class Wrapper:
        def __init__(self, file: Iterable[bytes]) -> None:
            self._file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._file)

    body = begin(answering(Wrapper([b"a"])), recorder, **{"wsgi.file_wrapper": Wrapper})
    assert list(body) == [b"a"]
    assert recorder.handed_over == 0
    body.close()
    assert recorder.handed_over == 1


def test_a_file_wrapper_that_is_a_function_gets_its_file_back(recorder: Recorder, tmp_path: Any) -> None:
    """As uWSGI has it: it sends the very object that its function has returned."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = path.open("rb")
    body = begin(answering(file), recorder, **{"wsgi.file_wrapper": lambda file, size: file})
    assert body is file
    assert recorder.handed_over == 0
    body.close()
    assert file.closed
    assert recorder.names() == ["seen"]


def test_a_file_that_takes_no_hook_ends_when_it_is_returned(recorder: Recorder) -> None:
    class Fixed:
        __slots__ = ()

        def fileno(self) -> int:
            return 0

    body = begin(answering(Fixed()), recorder, **{"wsgi.file_wrapper": lambda file, size: file})  # type: ignore[arg-type]
    assert type(body) is Fixed
    assert recorder.names() == ["seen"]


# --- Inline: before the last byte ------------------------------------------------------------------


def test_inline_delivers_before_a_list_is_returned_to_the_server_in_full(inline: Recorder) -> None:
    body = begin(answering([b"abc"], {"Content-Length": "3"}), inline)
    assert (next(iter(body)), inline.arrived) == (b"abc", ["seen"])


def test_inline_delivers_before_the_chunk_that_completes_the_content_length(inline: Recorder) -> None:
    chunks = iter(begin(answering(iter([b"ab", b"c"]), {"content-length": "3"}), inline))
    assert (next(chunks), inline.arrived) == (b"ab", [])
    assert (next(chunks), inline.arrived) == (b"c", ["seen"])


def test_inline_delivers_before_a_stream_of_unknown_length_is_over(inline: Recorder) -> None:
    chunks = iter(begin(answering(iter([b"ab", b"c"])), inline))
    assert (next(chunks), next(chunks), inline.arrived) == (b"ab", b"c", [])
    assert (next(chunks, None), inline.arrived) == (None, ["seen"])


def test_inline_delivers_before_the_last_byte_is_written(inline: Recorder) -> None:
    written: list[tuple[bytes, list[str]]] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "3")])
        current().capture("seen")
        write(b"ab")
        write(b"c")
        return []

    def start_response(*_: Any) -> Any:
        return lambda data: written.append((data, inline.arrived.copy()))

    AnalyticsMiddleware(app, inline.client)(environ(), start_response)
    assert written == [(b"ab", []), (b"c", ["seen"])]


def test_inline_delivers_before_a_file_goes_to_the_server(inline: Recorder) -> None:
    wrapped = FileWrapper(io.BytesIO(b"content"))
    begin(answering(wrapped), inline, **{"wsgi.file_wrapper": FileWrapper})
    assert inline.arrived == ["seen"]


@pytest.mark.parametrize("length", ["", "many", "-1", "²"])
def test_a_content_length_that_is_none_counts_as_unknown(length: str, inline: Recorder) -> None:
    assert list(begin(answering(iter([b"a"]), {"Content-Length": length}), inline)) == [b"a"]
    assert inline.arrived == ["seen"]


# --- The rest --------------------------------------------------------------------------------------


def test_analytics_are_attached_once_however_often_the_middleware_stands(recorder: Recorder) -> None:
    other = Recorder()
    inner = AnalyticsMiddleware(answering([b"a"]), other.client)
    body = begin(inner, recorder)
    list(body)
    body.close()
    assert (recorder.names(), other.names()) == (["seen"], [])
    other.client.shutdown()


def test_the_user_of_http_authentication_is_nobodys_user_unless_the_site_says_so(recorder: Recorder) -> None:
    asking = Recorder(user=lambda environ: environ.get("REMOTE_USER"))
    for each in (recorder, asking):
        body = begin(answering([b"a"]), each, REMOTE_USER="ada")
        list(body)
        body.close()
    assert (recorder.users(), asking.users()) == ([None], ["ada"])
    asking.client.shutdown()


def test_the_page_has_the_mount_point_and_the_scheme(recorder: Recorder) -> None:
    body = begin(
        answering([b"a"]), recorder, SCRIPT_NAME="/shop", PATH_INFO="/caf\xc3\xa9", **{"wsgi.url_scheme": "https"}
    )
    list(body)
    body.close()
    assert recorder.events()[0]["url"] == "https://shop.example/shop/caf%C3%A9"


def test_a_framework_may_have_a_request_class_of_its_own(recorder: Recorder) -> None:
    from sessionsight.wsgi import EnvironRequest

    class PyramidRequest(EnvironRequest):
        def user_id(self) -> str | None:
            return str(self.environ["pyramid.userid"])

    app = AnalyticsMiddleware(answering([b"a"]), recorder.client, request_class=PyramidRequest)
    run_wsgi_app(app, environ(**{"pyramid.userid": 7}), buffered=True)
    assert recorder.users() == ["7"]


def test_configuration_is_as_for_every_adapter(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    app = answering([])
    with pytest.raises(ConfigurationError, match="AnalyticsMiddleware: unknown option 'dissabled'"):
        AnalyticsMiddleware(app, dissabled=True)
    with pytest.raises(ConfigurationError, match="not both"):
        AnalyticsMiddleware(app, recorder.client, Settings(disabled=True))
    monkeypatch.setenv("ANALYSE_KEY", "pk_live_1")
    first = AnalyticsMiddleware(app)
    assert [destination.name for destination in first.client.settings.destinations] == ["analyse"]
    assert AnalyticsMiddleware(app, settings=Settings(disabled=True)).client is not first.client
    assert default_client() is first.client


def test_in_production_no_internal_error_reaches_the_app() -> None:
    def explode(environ: object) -> bool:
        raise RuntimeError

    recorder = Recorder(strict=False, should_capture=explode, user=explode)
    # Header values that no server would give.
    response = run_wsgi_app(
        AnalyticsMiddleware(answering([b"a"]), recorder.client),
        environ(HTTP_HOST=None, HTTP_REFERER=3, PATH_INFO="/\ud800", QUERY_STRING=None),
        buffered=True,
    )
    assert list(response[0]) == [b"a"]
    recorder.client.shutdown()


@pytest.mark.parametrize("make", [list, iter], ids=["list", "stream"])
def test_a_response_that_was_read_is_over_and_its_close_still_has_its_request(make: Any, recorder: Recorder) -> None:
    closed: list[bool] = []
    contexts: list[contextvars.Context] = []

    class Closing:
        def __init__(self, chunks: Any) -> None:
            self.chunks = chunks

        def __iter__(self) -> Any:
            return iter(self.chunks)

        def close(self) -> None:
            closed.append(current() is contexts[0].run(get_current))

    def app(environ: Any, start_response: Any) -> Any:
        contexts.append(contextvars.copy_context())
        start_response("200 OK", [])
        return Closing([b"ok"]) if make is iter else [b"ok"]

    body = begin(app, recorder)
    assert contexts[0].run(current) is contexts[0].run(get_current)
    assert list(body) == [b"ok"]
    assert contexts[0].run(current) is not contexts[0].run(get_current)
    body.close()
    assert closed == ([True] if make is iter else [])
    assert contexts[0].run(current) is not contexts[0].run(get_current)
