"""The Flask extension in apps as people build them: factories, blueprints, several apps, streams."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, Response, g, session, stream_with_context
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as Browser
from werkzeug.test import EnvironBuilder

from sessionsight import ConfigurationError, NoClientError, carry, current, get_client, scope
from sessionsight.capture.current import set_default_client
from sessionsight_flask import SessionSight, current_analytics
from tests.adapters.recording import COOKIE, Recorder

request: Any = flask.request  # whose `analytics` no type checker knows


def make(recorder: Recorder, name: str = "shop", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update(SECRET_KEY="test", **config)
    SessionSight(app, client=recorder.client)
    return app


def get(app: Any, path: str = "/", **options: Any) -> Any:
    """A request whose response is read and closed, as a server does it."""
    with Browser(app, use_cookies=False).get(path, headers={"Cookie": COOKIE}, **options) as response:
        response.get_data()
        return response


# --- Factories, blueprints, several apps ---------------------------------------------------------------


def test_one_extension_serves_the_apps_of_a_factory_each_with_its_own_client() -> None:
    analytics = SessionSight()
    orders = Blueprint("orders", __name__)

    @orders.get("/orders")
    def list_orders() -> str:
        current_analytics.capture("listed", user_id="ada")
        return str(id(analytics.client))

    def create_app(name: str) -> Flask:
        app = Flask(name)
        app.config["SESSIONSIGHT_DESTINATIONS"] = {"analyse": {"public_key": f"pk_{name}"}}
        app.config["SESSIONSIGHT_PROXY"] = "http://127.0.0.1:9"
        analytics.init_app(app)
        app.register_blueprint(orders, url_prefix="/api")
        return app

    apps = [create_app("one"), create_app("two")]
    clients = [app.extensions["sessionsight"] for app in apps]
    assert [get(app, "/api/orders").text for app in apps] == [str(id(client)) for client in clients]
    assert [client.stats().lanes["analyse"].captured for client in clients] == [1, 1]
    for client in clients:
        client.shutdown(0)


def test_apps_mounted_below_each_other_capture_once_by_the_outer_ones_client(recorder: Recorder) -> None:
    other = Recorder()
    outer, inner = make(recorder, "outer"), make(other, "inner")

    @inner.get("/")
    def view() -> str:
        request.analytics.capture("inner", {"route": request.analytics.context.page.route})
        return "ok"

    outer.wsgi_app.app = DispatcherMiddleware(outer.wsgi_app.app, {"/inner": inner})  # type: ignore[attr-defined]
    assert get(outer, "/inner/").text == "ok"
    assert (recorder.names(), other.names()) == (["inner"], [])
    other.client.shutdown()


def test_apps_side_by_side_capture_each_by_its_own_client(recorder: Recorder) -> None:
    other = Recorder()
    shop, blog = make(recorder), make(other, "blog")
    for app in (shop, blog):
        app.add_url_rule("/", view_func=lambda: request.analytics.capture(flask.current_app.name) or "ok")
    served = DispatcherMiddleware(shop, {"/blog": blog})
    get(served, "/")
    get(served, "/blog/")
    assert (recorder.names(), other.names()) == (["shop"], ["blog"])
    other.client.shutdown()


def test_a_second_set_up_is_refused_with_the_remedy() -> None:
    app = Flask("shop")
    app.config["SESSIONSIGHT_DISABLED"] = True
    SessionSight(app)
    with pytest.raises(ConfigurationError, match=r"set up for <Flask 'shop'> already; call init_app once"):
        SessionSight().init_app(app)


def test_a_blueprints_own_hooks_and_error_handlers_have_analytics(recorder: Recorder) -> None:
    app = make(recorder)
    orders = Blueprint("orders", __name__)

    @orders.before_request
    def before() -> None:
        current_analytics.capture("before")

    @orders.teardown_request
    def teardown(error: BaseException | None) -> None:
        current_analytics.capture("teardown")

    @orders.errorhandler(LookupError)
    def handle(error: LookupError) -> tuple[str, int]:
        request.analytics.capture("handled")
        return "no such order", 404

    @orders.get("/")
    def view() -> str:
        raise LookupError

    app.register_blueprint(orders)
    assert get(app).status_code == 404
    assert recorder.names() == ["before", "handled", "teardown"]


# --- Configuration by variables of the environment -----------------------------------------------------


@pytest.mark.parametrize("upper", [False, True], ids=["as written", "in upper case, as on Windows"])
def test_prefixed_variables_configure(upper: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "SESSIONSIGHT_DESTINATIONS__signal__api_key": "key-1",
        "SESSIONSIGHT_DESTINATIONS__signal__project_id": '"42"',
        "SESSIONSIGHT_DESTINATIONS__analyse__public_key": "pk_live_1",
        "SESSIONSIGHT_EXCLUDE_PATHS": '["/health", "/metrics"]',
        "SESSIONSIGHT_LINGER": "0.5",
        "SESSIONSIGHT_STRICT": "true",
        "SESSIONSIGHT_CONSENT": "gpc",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"FLASK_{name.upper() if upper else name}", value)
    app = Flask("shop")
    app.config.from_prefixed_env()
    SessionSight(app)
    settings = app.extensions["sessionsight"].settings
    assert {destination.name for destination in settings.destinations} == {"signal", "analyse"}
    assert (settings.exclude_paths, settings.linger) == (("/health", "/metrics"), 0.5)
    assert (settings.strict, settings.consent) == (True, "gpc")


def test_a_prefixed_variable_that_json_reads_as_a_number_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SESSIONSIGHT_DESTINATIONS__signal__api_key", "key-1")
    monkeypatch.setenv("FLASK_SESSIONSIGHT_DESTINATIONS__signal__project_id", "42")
    app = Flask("shop")
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError, match="project_id"):
        SessionSight(app)


# --- current_analytics ---------------------------------------------------------------------------------


def test_current_analytics_are_the_requests_own_wherever_flask_runs_code(recorder: Recorder) -> None:
    app = make(recorder)

    @app.teardown_appcontext
    def teardown(error: BaseException | None) -> None:
        current_analytics.capture("teardown of the app's context")

    @app.get("/")
    async def view() -> Response:
        assert current_analytics == request.analytics
        current_analytics.capture("async view")

        def chunks() -> Iterator[str]:
            current_analytics.capture("plain generator")
            yield "ok"

        return Response(chunks())

    assert get(app).text == "ok"
    assert recorder.names() == ["async view", "teardown of the app's context", "plain generator"]
    assert {event["anonymous_id"] for event in recorder.events()} == {"visitor-1"}


def test_current_analytics_in_a_command_are_the_apps_client(recorder: Recorder) -> None:
    other = Recorder()
    set_default_client(other.client)
    app = make(recorder)

    @app.cli.command("nightly")
    def nightly() -> None:
        current_analytics.capture("nightly", user_id="ada")

    assert app.test_cli_runner().invoke(args=["nightly"]).exit_code == 0
    assert (recorder.names(), other.names()) == (["nightly"], [])
    other.client.shutdown()


def test_current_analytics_of_a_request_in_a_request_are_the_inner_ones(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/")
    def view() -> str:
        outer = request.analytics
        with app.test_request_context("/inner"):
            assert current_analytics == request.analytics != outer
        assert current_analytics == outer
        return "ok"

    assert get(app).text == "ok"


def test_current_analytics_outside_everything_say_what_to_do(recorder: Recorder) -> None:
    with pytest.raises(NoClientError, match="install one of the middlewares"):
        current_analytics.capture("nowhere")
    set_default_client(recorder.client)
    current_analytics.capture("script", user_id="ada")
    with Flask("without").app_context():
        current_analytics.capture("app without set-up", user_id="ada")
    assert recorder.names() == ["script", "app without set-up"]


# --- Streams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True], ids=["plain generator", "stream_with_context"])
def test_a_stream_that_its_reader_leaves_keeps_what_was_captured(keep: bool, recorder: Recorder) -> None:
    app = make(recorder)
    closed: list[bool] = []

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[str]:
            try:
                while True:
                    current_analytics.capture("chunk")
                    yield "x"
            finally:
                current_analytics.capture("closed")
                closed.append(current() == current_analytics)

        return Response(stream_with_context(chunks()) if keep else chunks())

    response = app(EnvironBuilder(headers=[("Cookie", COOKIE)]).get_environ(), lambda *_: lambda _: None)
    body = iter(response)
    assert [next(body), next(body)] == [b"x", b"x"]
    assert recorder.handed_over == 0
    response.close()  # type: ignore[attr-defined]  # what PEP 3333 has servers do
    assert closed == [True]
    assert recorder.names() == ["chunk", "chunk", "closed"]


def test_streams_of_several_requests_do_not_mix(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/<name>")
    def view(name: str) -> Response:
        def chunks() -> Iterator[str]:
            for number in range(3):
                current().capture(name, {"number": number}, user_id=name)
                yield name

        return Response(chunks())

    browser = Browser(app)
    responses = [browser.get(f"/{name}") for name in "abc"]
    bodies = [iter(response.response) for response in responses]
    for _ in range(3):
        for body in bodies:
            next(body)
    for response in responses:
        response.close()
    assert all(event["event_name"] == event["person_id"] for event in recorder.events())
    assert sorted(recorder.names()) == list("aaabbbccc")


# --- Who it is -----------------------------------------------------------------------------------------


@pytest.fixture
def asking() -> Iterator[Recorder]:
    """App whose user is the one in Flask's session."""
    recorder = Recorder(user=lambda request: session.get("user") or g.get("user"), strict=False)
    yield recorder
    recorder.client.shutdown()


def test_a_function_that_reads_session_and_g_is_asked_while_they_are_there(
    asking: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(asking)

    @app.get("/login")
    def login() -> str:
        request.analytics.capture("before login")
        session["user"] = "ada"
        return "ok"

    @app.get("/token")
    def token() -> Response:
        request.analytics.capture("before token")
        g.user = "bob"

        def chunks() -> Iterator[str]:
            current_analytics.capture("chunk")
            yield "ok"

        return Response(chunks())

    @app.get("/stream")
    def stream() -> Response:
        def chunks() -> Iterator[str]:
            g.user = "eve"
            current_analytics.capture("chunk with context")
            yield "ok"

        return Response(stream_with_context(chunks()))

    @app.get("/quiet")
    def quiet() -> str:
        return "ok"

    @app.get("/fails")
    def fails() -> str:
        g.user = "kim"
        request.analytics.capture("before the failure")
        raise LookupError

    app.logger.disabled = True
    with caplog.at_level(logging.WARNING, "sessionsight"):
        for path in ("/login", "/token", "/stream", "/quiet", "/missing", "/fails"):
            get(app, path)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sessionsight")] == []
    assert list(zip(asking.names(), asking.users(), strict=True)) == [
        ("before login", "ada"),
        ("before token", "bob"),
        ("chunk", "bob"),
        ("chunk with context", "eve"),
        ("before the failure", "kim"),
    ]


def test_a_thread_without_flasks_context_has_the_user_that_was_seen_last(
    asking: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(asking)

    @app.get("/")
    def view() -> str:
        session["user"] = "ada"
        request.analytics.capture("view")
        thread = threading.Thread(target=request.analytics.capture, args=("thread",))
        thread.start()
        thread.join()
        return "ok"

    get(app)
    assert asking.users() == ["ada", "ada"]
    assert "user" not in caplog.text


def test_flasks_test_client_that_keeps_its_context_changes_nothing(
    asking: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(asking)

    @app.get("/")
    def view() -> str:
        session["user"] = "ada"
        request.analytics.capture("seen")
        return "ok"

    with app.test_client() as browser:
        assert browser.get("/").text == "ok"
        assert session["user"] == "ada"
        assert browser.get("/").text == "ok"
    assert asking.users() == ["ada", "ada"]
    assert "user" not in caplog.text


# --- Other people's hands on the app ---------------------------------------------------------------------


class OwnRequest(flask.Request):
    """A request class of a site."""

    def __init__(self, environ: dict[str, Any], **options: Any) -> None:
        super().__init__(environ, **options)
        self.tenant = environ["HTTP_HOST"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_app_may_set_its_request_class_before_or_after(when: str, recorder: Recorder) -> None:
    app = Flask("shop")
    if when == "before":
        app.request_class = OwnRequest
    SessionSight(app, client=recorder.client)
    app.request_class = OwnRequest

    @app.get("/")
    def view() -> str:
        request.analytics.capture("seen", {"same": request.analytics is current() == current_analytics})
        return f"{type(request._get_current_object()).__name__} {request.tenant}"

    assert get(app).text == "OwnRequest localhost"
    assert [(event["event_name"], event["properties"]["same"]) for event in recorder.events()] == [("seen", True)]


def below() -> None:
    current().capture("below")
    current_analytics.capture("by_proxy")


@pytest.mark.parametrize(
    "wrap", [lambda app: app, lambda app: DispatcherMiddleware(app, {})], ids=["plain", "dispatched"]
)
def test_a_server_that_took_the_wsgi_app_before_finds_the_request(wrap: Any, recorder: Recorder) -> None:
    app = Flask("shop")
    taken = wrap(app.wsgi_app)
    SessionSight(app, client=recorder.client)

    @app.get("/orders/<int:order_id>")
    def view(order_id: int) -> str:
        request.analytics.capture("view")
        below()
        return "ok"

    assert get(taken, "/orders/1").text == "ok"
    assert recorder.names() == ["view", "below", "by_proxy"]
    assert {(event["anonymous_id"], event["path"]) for event in recorder.events()} == {("visitor-1", "/orders/1")}


def test_the_wsgi_app_may_be_wrapped_and_replaced_by_others(recorder: Recorder) -> None:
    app = make(recorder)
    ours = app.wsgi_app
    app.wsgi_app = DispatcherMiddleware(ours, {})  # type: ignore[method-assign]

    @app.get("/")
    def view() -> str:
        below()
        return "ok"

    get(app)
    app.wsgi_app = type(app).wsgi_app.__get__(app)  # type: ignore[method-assign]  # as if ours had never been there
    get(app)
    assert recorder.names() == ["below", "by_proxy"] * 2


def test_extensions_that_wrap_request_context_go_on_working(recorder: Recorder) -> None:
    app = make(recorder)
    ours, seen = app.request_context, []

    def wrapped(environ: Any) -> Any:
        context = ours(environ)
        seen.append(context.request.analytics)  # type: ignore[attr-defined]
        return context

    app.request_context = wrapped  # type: ignore[method-assign]

    @app.get("/")
    def view() -> str:
        assert request.analytics is seen[0]
        return "ok"

    assert get(app).text == "ok"


# --- Work that outlives its request ----------------------------------------------------------------------


@pytest.mark.parametrize("served", [True, False])
def test_a_worker_that_a_request_starts_does_not_capture_as_its_visitor_forever(
    served: bool, recorder: Recorder
) -> None:
    app = Flask("shop")
    taken = app.wsgi_app
    SessionSight(app, client=recorder.client)
    jobs: queue.Queue[str | None] = queue.Queue()
    workers: list[threading.Thread] = []

    def work() -> None:
        while (user := jobs.get()) is not None:
            current().capture("mailed", user_id=user)
            current_analytics.capture("mailed_too", user_id=user)
            jobs.task_done()

    @app.get("/")
    def order() -> str:
        if not workers:
            workers.append(threading.Thread(target=contextvars.copy_context().run, args=(work,)))
            workers[0].start()
            jobs.put("ada")
            jobs.join()
        return "ok"

    get(app if served else taken)
    for user in ("bob", None):
        jobs.put(user)
    workers[0].join()
    found = [(event["person_id"], event.get("anonymous_id")) for event in recorder.events()]
    assert found == [("ada", "visitor-1")] * 2 + [("bob", "bob")] * 2


def test_a_copied_request_context_is_the_requests_while_that_lives(recorder: Recorder) -> None:
    app = make(recorder)
    go_on, done = threading.Event(), threading.Event()
    kept: list[Any] = []

    @app.get("/")
    def view() -> Response:
        @flask.copy_current_request_context
        def work() -> None:
            below()
            kept.append(request.analytics)
            done.set()
            assert go_on.wait(10)
            current_analytics.capture("later", user_id="bob")
            request.analytics.capture("explicit", user_id="bob")

        thread = threading.Thread(target=work)
        thread.start()
        assert done.wait(10)
        kept.append(thread)

        def rows() -> Iterator[str]:
            current_analytics.capture("row")
            yield "ok"

        return Response(stream_with_context(rows()))

    assert get(app).text == "ok"
    go_on.set()
    kept[1].join()
    ids = {event["event_name"]: event.get("anonymous_id") for event in recorder.events()}
    inside = dict.fromkeys(["below", "by_proxy", "row"], "visitor-1")
    assert ids == {**inside, "later": "bob", "explicit": "visitor-1"}


def test_a_carried_function_keeps_the_ids_after_the_request(recorder: Recorder) -> None:
    app = make(recorder)
    carried: list[Any] = []

    @app.get("/")
    def view() -> str:
        carried.append(carry(below))
        return "ok"

    get(app)
    thread = threading.Thread(target=carried[0])
    thread.start()
    thread.join()
    assert {event["anonymous_id"] for event in recorder.events()} == {"visitor-1"}
    assert recorder.names() == ["below", "by_proxy"]


# --- The client, and scopes ------------------------------------------------------------------------------


def test_get_client_is_that_of_the_current_app(recorder: Recorder) -> None:
    other = Recorder()
    shop, blog = make(recorder), make(other, "blog")
    with shop.app_context():
        assert get_client() is recorder.client
        with blog.app_context():
            assert get_client() is other.client
            current().capture("in_blog", user_id="ada")
    with blog.test_request_context():
        assert get_client() is other.client
    assert get_client() is recorder.client  # the first of the process
    assert (recorder.names(), other.names()) == ([], ["in_blog"])
    other.client.shutdown()


def test_a_scope_takes_the_place_of_the_request_until_its_end(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/")
    def view() -> str:
        with scope(user_id="bob"):
            below()
        below()
        return "ok"

    get(app)
    assert [event.get("person_id") for event in recorder.events()] == ["bob", "bob", None, None]
