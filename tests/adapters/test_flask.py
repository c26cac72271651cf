from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import flask
import flask_login  # type: ignore[import-untyped]
import pytest
from flask import Blueprint, Flask, Response, g, send_file, session, stream_with_context
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wsgi import FileWrapper

from sessionsight import ConfigurationError, InvalidEventError, NoClientError, current
from sessionsight.capture.current import default_client
from sessionsight_flask import SessionSight
from tests.adapters.recording import COOKIE, Recorder

request: Any = flask.request  # whose `analytics` no type checker knows


def make(recorder: Recorder, **config: Any) -> Flask:
    app = Flask("shop")
    app.config.update(SECRET_KEY="test", **config)
    SessionSight(app, client=recorder.client)
    return app


def get(app: Flask, path: str = "/", **options: Any) -> Any:
    """A request whose response is read and closed, as a server does it."""
    with app.test_client(use_cookies=False).get(path, headers={"Cookie": COOKIE}, **options) as response:
        response.get_data()
        return response


# --- Where request.analytics is ----------------------------------------------------------------------


def test_views_have_analytics_and_the_wsgi_environ_has_the_same(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/")
    def view() -> str:
        assert request.analytics is request.environ["sessionsight.analytics"] is current()
        request.analytics.capture("seen")
        return "ok"

    assert get(app).text == "ok"
    assert recorder.names() == ["seen"]


def test_everything_around_a_view_has_analytics(recorder: Recorder) -> None:
    app = make(recorder)
    app.url_value_preprocessor(lambda endpoint, values: request.analytics.capture("url values"))
    app.before_request(lambda: request.analytics.capture("before"))
    app.teardown_request(lambda error: request.analytics.capture("teardown"))

    @app.after_request
    def after(response: Response) -> Response:
        request.analytics.capture("after")
        return response

    app.add_url_rule("/", view_func=lambda: "ok")
    get(app)
    assert recorder.names() == ["url values", "before", "after", "teardown"]


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/fails", 500), ("/only-post", 405)])
def test_error_handlers_have_analytics(path: str, status: int, recorder: Recorder) -> None:
    app = make(recorder)

    @app.errorhandler(status)
    def handle(error: Exception) -> tuple[str, int]:
        request.analytics.capture("handled")
        return "handled", status

    @app.get("/fails")
    def fails() -> str:
        request.analytics.capture("before")
        raise LookupError

    app.add_url_rule("/only-post", view_func=fails, methods=["POST"], endpoint="post")
    assert get(app, path).status_code == status
    assert recorder.names()[-1] == "handled"


def test_the_error_handler_has_analytics_even_when_the_session_cannot_be_opened(recorder: Recorder) -> None:
    class BrokenSessions(SecureCookieSessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            raise ConnectionError

    app = make(recorder)
    app.session_interface = BrokenSessions()

    @app.errorhandler(500)
    def handle(error: Exception) -> tuple[str, int]:
        request.analytics.capture("handled")
        return "handled", 500

    assert get(app).text == "handled"
    assert recorder.names() == ["handled"]


def test_a_request_context_of_a_test_has_analytics_that_hand_over_at_once(recorder: Recorder) -> None:
    with make(recorder).test_request_context("/orders/1", headers={"Cookie": COOKIE}):
        request.analytics.capture("seen")
        assert recorder.handed_over == 1
    assert recorder.events()[0]["path"] == "/orders/1"


def test_the_apps_own_request_class_stays_in_use(recorder: Recorder) -> None:
    class OwnRequest(flask.Request):
        tenant = "acme"

    class OwnFlask(Flask):
        request_class = OwnRequest

    app = OwnFlask("shop")
    SessionSight(app, client=recorder.client)
    app.add_url_rule("/", view_func=lambda: f"{request.tenant} {isinstance(request._get_current_object(), OwnRequest)}")
    assert get(app).text == "acme True"
    assert not hasattr(OwnRequest, "analytics")
    assert not hasattr(flask.Request, "analytics")


# --- The end of the response ---------------------------------------------------------------------------


def test_records_are_handed_over_when_the_server_has_the_whole_response(recorder: Recorder) -> None:
    app = make(recorder)
    seen: list[int] = []

    @app.get("/")
    def view() -> str:
        request.analytics.capture("seen")
        return "ok"

    app.teardown_request(lambda error: seen.append(recorder.handed_over))
    with app.test_client(use_cookies=False).get("/", headers={"Cookie": COOKIE}):
        seen.append(recorder.handed_over)
    seen.append(recorder.handed_over)
    assert seen == [0, 0, 1]


def test_streams_find_their_analytics(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/plain")
    def plain() -> Response:
        def chunks() -> Iterator[str]:
            current().capture("chunk")
            yield "a"

        return Response(chunks())

    @app.get("/context")
    def with_context() -> Response:
        def chunks() -> Iterator[str]:
            request.analytics.capture("chunk with context")
            yield "a"

        return Response(stream_with_context(chunks()))

    get(app, "/plain")
    get(app, "/context")
    assert recorder.names() == ["chunk", "chunk with context"]


def test_a_file_that_the_server_sends_ends_when_it_is_closed(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/")
    def view() -> Response:
        request.analytics.capture("downloaded")
        return send_file(io.BytesIO(b"content"), "text/plain")

    bodies: list[Any] = []
    wsgi_app = app.wsgi_app

    def watched(environ: Any, start_response: Any) -> Any:
        bodies.append(wsgi_app(environ, start_response))
        return bodies[0]

    app.wsgi_app = watched  # type: ignore[method-assign]
    assert get(app, environ_overrides={"wsgi.file_wrapper": FileWrapper}).data == b"content"
    assert type(bodies[0]) is FileWrapper
    assert recorder.names() == ["downloaded"]


def test_an_exception_that_flask_passes_on_keeps_what_was_captured(recorder: Recorder) -> None:
    app = make(recorder, TESTING=True)

    @app.get("/")
    def view() -> str:
        request.analytics.capture("seen")
        raise LookupError

    with pytest.raises(LookupError):
        get(app)
    assert recorder.names() == ["seen"]


def test_a_thread_captures_after_the_response_under_the_same_ids(recorder: Recorder) -> None:
    app = make(recorder)
    kept: list[Any] = []

    @app.get("/orders/<int:order_id>")
    def view(order_id: int) -> str:
        sign_in("ada")
        kept.append(request.analytics)
        return "ok"

    get(app, "/orders/1")
    thread = threading.Thread(target=kept[0].capture, args=("mailed",))
    thread.start()
    thread.join()
    [event] = recorder.events()
    assert (event["event_name"], event["anonymous_id"], event["person_id"]) == ("mailed", "visitor-1", "ada")
    assert kept[0].context.page.route == "/orders/<int:order_id>"


def test_inline_delivery_is_over_before_the_body_goes_out(inline: Recorder) -> None:
    app = make(inline)

    @app.get("/")
    def view() -> str:
        request.analytics.capture("seen")
        return "ok"

    environ = app.test_request_context().request.environ
    environ["HTTP_COOKIE"] = COOKIE
    del environ["werkzeug.request"]
    assert next(iter(app(environ, lambda *_: lambda _: None))) == b"ok"
    assert inline.arrived == ["seen"]


def test_async_views_work(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/")
    async def view() -> str:
        current().capture("current")
        request.analytics.capture("request")
        return "ok"

    assert get(app).text == "ok"
    assert recorder.names() == ["current", "request"]


# --- Who it is, and where ----------------------------------------------------------------------------


class User:
    """As Flask-Login wants it."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_id(self) -> str:
        return self.name


class AnonymousUser:
    is_authenticated = False

    def get_id(self) -> None:
        return None


def sign_in(name: str) -> None:
    """Does the same as Flask-Login when it loads the user, and in `login_user`."""
    g._login_user = User(name)


def test_the_user_is_who_is_signed_in_at_the_capture_or_at_the_end(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/login")
    def login() -> str:
        request.analytics.capture("before login")
        sign_in("ada")
        return "ok"

    @app.get("/logout")
    def logout() -> str:
        sign_in("ada")
        request.analytics.capture("before logout")
        g._login_user = AnonymousUser()
        return "ok"

    @app.get("/nobody")
    def nobody() -> str:
        request.analytics.capture("nobody")
        return "ok"

    for path in ("/login", "/logout", "/nobody"):
        get(app, path)
    assert recorder.users() == ["ada", "ada", None]


def test_capturing_does_not_touch_the_session(recorder: Recorder) -> None:
    app = make(recorder)

    @app.get("/quiet")
    def quiet() -> str:
        request.analytics.capture("seen")
        return "ok"

    @app.get("/touching")
    def touching() -> str:
        request.analytics.capture("seen")
        return str(session.get("name"))

    assert "Vary" not in get(app, "/quiet").headers
    assert get(app, "/touching").headers["Vary"] == "Cookie"


def test_flask_login_itself_is_understood(recorder: Recorder) -> None:
    app = make(recorder)
    manager = flask_login.LoginManager(app)

    class Member(flask_login.UserMixin):  # type: ignore[misc]
        id = "ada"

    manager.user_loader(lambda user_id: Member())

    @app.get("/login")
    def login() -> str:
        request.analytics.capture("login")
        flask_login.login_user(Member())
        return "ok"

    @app.get("/quiet")
    def quiet() -> str:
        request.analytics.capture("quiet")
        return "ok"

    @app.get("/asking")
    def asking() -> str:
        request.analytics.capture("asking")
        return str(flask_login.current_user.get_id())

    @app.get("/logout")
    def logout() -> str:
        flask_login.current_user.get_id()
        request.analytics.capture("logout")
        flask_login.logout_user()
        return "ok"

    browser = app.test_client()
    browser.set_cookie("ss_vid", "visitor-1")
    for path in ("/quiet", "/login", "/quiet", "/asking", "/logout"):
        with browser.get(path) as response:
            response.get_data()
    found = [(event["event_name"], event.get("person_id")) for event in recorder.events()]
    assert found == [("quiet", None), ("login", "ada"), ("quiet", None), ("asking", "ada"), ("logout", "ada")]


def test_a_login_counts_for_captures_that_never_touch_the_request(recorder: Recorder) -> None:
    app = make(recorder)
    flask_login.LoginManager(app).user_loader(lambda user_id: None)

    class Member(flask_login.UserMixin):  # type: ignore[misc]
        id = "ada"

    @app.get("/login")
    def login() -> str:
        current().capture("before")
        flask_login.login_user(Member())
        current().capture("after")
        return "ok"

    get(app, "/login")

    assert [(event["event_name"], event.get("person_id")) for event in recorder.events()] == [
        ("before", "ada"),
        ("after", "ada"),
    ]


def test_the_sites_own_functions_get_the_request_until_the_response_has_ended() -> None:
    recorder = Recorder(
        user=lambda request: request.args["user"], should_capture=lambda request: request.endpoint == "view"
    )
    app = make(recorder)

    @app.get("/")
    def view() -> str:
        request.analytics.capture("seen")
        return "ok"

    get(app, "/?user=ada")
    assert recorder.users() == ["ada"]
    recorder.client.shutdown()


def test_the_route_is_the_rule_with_the_prefix_of_its_blueprint(recorder: Recorder) -> None:
    app = make(recorder)
    orders = Blueprint("orders", "orders", url_prefix="/orders")
    orders.add_url_rule("/<int:order_id>", view_func=lambda order_id: str(request.analytics.context.page.route))
    app.register_blueprint(orders)
    app.register_error_handler(404, lambda error: str(request.analytics.context.page.route))
    assert get(app, "/orders/1").text == "/orders/<int:order_id>"
    assert get(app, "/nowhere").text == "None"


@pytest.mark.parametrize("order", ["proxy first", "analytics first"])
def test_the_page_is_what_the_proxy_middleware_makes_of_it(order: str, recorder: Recorder) -> None:
    app = Flask("shop")
    if order == "proxy first":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)  # type: ignore[method-assign]
    SessionSight(app, client=recorder.client)
    if order == "analytics first":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)  # type: ignore[method-assign]

    @app.get("/caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    def view() -> str:
        request.analytics.capture("seen")
        return "ok"

    headers = {
        "Cookie": COOKIE,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
        "X-Forwarded-Prefix": "/app",
        "X-Forwarded-For": "192.0.2.1",
    }
    with app.test_client(use_cookies=False).get("/caf%C3%A9", headers=headers) as response:
        response.get_data()
    assert recorder.events()[0]["url"] == "https://shop.example/app/caf%C3%A9"


# --- Configuration -------------------------------------------------------------------------------------


def test_settings_come_from_the_apps_configuration() -> None:
    app = Flask("shop")
    app.config.update(
        SESSIONSIGHT_DESTINATIONS={"analyse": {"public_key": "pk_live_1"}},
        SESSIONSIGHT_CONSENT="gpc",
        SESSIONSIGHT_EXCLUDE_PATHS=["/health"],
        SESSION_COOKIE_NAME="not ours",
    )
    analytics = SessionSight()
    analytics.init_app(app)
    with app.app_context():
        client = analytics.client
    assert client is app.extensions["sessionsight"] is default_client()
    assert [destination.name for destination in client.settings.destinations] == ["analyse"]
    assert (client.settings.consent, client.settings.exclude_paths) == ("gpc", ("/health",))


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    app = Flask("shop")
    app.config["SESSIONSIGHT_DESTINATION"] = {}
    with pytest.raises(
        ConfigurationError,
        match=r"app.config: unknown option 'SESSIONSIGHT_DESTINATION'; did you mean 'SESSIONSIGHT_DESTINATIONS'\?",
    ):
        SessionSight(app)


def test_an_app_is_set_up_once() -> None:
    app = Flask("shop")
    app.config["SESSIONSIGHT_DISABLED"] = True
    analytics = SessionSight(app)
    with pytest.raises(ConfigurationError, match="call init_app once for each app"):
        analytics.init_app(app)


def test_an_app_without_set_up_says_what_to_do() -> None:
    with Flask("shop").app_context(), pytest.raises(NoClientError, match="call init_app"):
        _ = SessionSight().client


def test_each_app_of_one_extension_has_its_own_client() -> None:
    analytics = SessionSight()
    apps = [Flask("shop"), Flask("blog")]
    for app in apps:
        app.config["SESSIONSIGHT_DISABLED"] = True
        analytics.init_app(app)
    assert apps[0].extensions["sessionsight"] is not apps[1].extensions["sessionsight"]


@pytest.mark.parametrize(("config", "strict"), [({}, False), ({"DEBUG": True}, True)])
def test_strictness_follows_debug(config: dict[str, Any], strict: bool) -> None:
    app = Flask("shop")
    app.config.update(SESSIONSIGHT_DESTINATIONS={"analyse": {"public_key": "pk_live_1"}}, **config)
    SessionSight(app)
    app.testing = True

    @app.get("/")
    def view() -> str:
        request.analytics.capture("")
        return "ok"

    if strict:
        with pytest.raises(InvalidEventError):
            get(app)
    else:
        assert get(app).text == "ok"


def test_strictness_can_be_set() -> None:
    app = Flask("shop")
    app.config.update(DEBUG=True, SESSIONSIGHT_DISABLED=True, SESSIONSIGHT_STRICT=False)
    SessionSight(app)
    assert app.extensions["sessionsight"].settings.strict is False


@pytest.mark.processes
def test_the_wsgi_part_works_where_flask_is_not_installed_and_the_other_part_says_what_to_install() -> None:
    program = """
import sys
sys.modules["flask"] = None
import sessionsight_flask
from sessionsight.wsgi import AnalyticsMiddleware
try:
    from sessionsight_flask import SessionSight
except ImportError as error:
    print(error)
try:
    sessionsight_flask.Nonsense
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "SessionSight needs Flask: pip install 'sessionsight[flask]'",
        "module 'sessionsight_flask' has no attribute 'Nonsense'",
    ]
