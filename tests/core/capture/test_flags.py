import asyncio
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import sessionsight
from sessionsight import Analytics, Client, InvalidEventError, InvalidPropertiesError, Settings, TrackingContext
from sessionsight.capture.current import set_default_client
from sessionsight.capture.scope import RequestScope
from sessionsight.destinations import SessionSight, Signal
from sessionsight.test_mode import test_mode
from sessionsight.testing import record, suppress_delivery
from tests.core.box import Visit
from tests.support.server import PATIENCE, Request, Server, reply

COOKIES = "ss_sid=session-1; ss_vid=visitor-1"
FLAGS = b"""{"flags": {"new-checkout": {"value": true, "type": "boolean"},
"cta-color": {"value": "green", "type": "string"}}}"""
LIST = b"""{"flags": [{"id": "flag_1", "key": "cta-color", "name": "Color", "type": "string", "defaultValue": "blue",
"createdAt": 1711234600000}], "configs": []}"""


def answer(request: Request) -> Any:
    return reply(200, body=LIST if request.method == "GET" else FLAGS)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(decide=answer) as server:
        yield server


def client(server: Server, *names: str, **options: Any) -> Client:
    destinations = [
        SessionSight(
            name=name,
            secret_api_key="sessionsight_sec_1",
            property_id=name,
            api_url=server.url,
            flags_timeout=10.0,  # the machine may be busy
        )
        for name in names or ("sessionsight",)
    ]
    return Client(Settings(**{"strict": True, "destinations": tuple(destinations), **options}))


def evaluated(server: Server) -> list[dict[str, Any]]:
    return [request.json["context"] for request in server.requests if request.target == "/v1/flags/evaluate"]


def test_a_flag_is_asked_for_with_what_is_known_of_the_visitor(server: Server) -> None:
    analytics = client(server).for_request(COOKIES)
    assert server.requests == []
    analytics.identify("user_1")
    assert analytics.flags.get("new-checkout") is True
    [request] = [one for one in server.requests if one.target.startswith("/v1/flags")]
    assert (request.method, request.headers["x-api-key"]) == ("POST", "sessionsight_sec_1")
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "propertyId": "sessionsight",
        "environment": "production",
        "context": {"userId": "user_1", "visitorId": "visitor-1", "sessionId": "session-1"},
    }


def test_a_request_makes_one_call_for_all_flags(server: Server) -> None:
    made = client(server)
    analytics = made.for_request(COOKIES)
    values = [
        analytics.flags.get("new-checkout"),
        analytics.flags.get("cta-color", "blue"),
        analytics.flags.get("none"),
    ]
    assert values == [True, "green", False]
    found = analytics.flags.all()
    assert found == {"new-checkout": True, "cta-color": "green"}
    found.clear()
    assert analytics.flags.all()
    assert len(evaluated(server)) == 1
    made.for_request("ss_vid=visitor-2").flags.all()
    assert evaluated(server)[1:] == [{"visitorId": "visitor-2"}]


def test_a_default_of_another_type_than_the_flags_wins(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    analytics = client(server).for_request(COOKIES)
    assert analytics.flags.get("new-checkout", "old") == "old"
    assert analytics.flags.get("cta-color") is False
    assert "flag 'cta-color' is 'green', and the default of the call False" in caplog.text


def test_attributes_for_the_rules_override_ids_and_make_a_new_call(server: Server) -> None:
    analytics = client(server).for_request(COOKIES)
    analytics.flags.all()
    analytics.flags.target(plan="pro", seats=3, beta=True, gone=None).target(visitorId="", sessionId="other").all()
    assert evaluated(server)[1:] == [
        {"plan": "pro", "seats": 3, "beta": True, "visitorId": "visitor-1", "sessionId": "other"}
    ]


def test_redacted_attributes_are_not_sent(server: Server) -> None:
    analytics = client(server, redact=("plan",)).for_request(COOKIES)
    analytics.flags.target(plan="pro").all()
    assert "pro" not in str(evaluated(server))


@pytest.mark.parametrize("settings", [{"consent": lambda data: False}, {"should_capture": lambda request: False}])
def test_nobody_is_asked_about_a_request_from_which_nothing_is_sent(server: Server, settings: dict[str, Any]) -> None:
    analytics = client(server, **settings).for_request(COOKIES)
    assert analytics.flags.get("new-checkout") is False
    assert analytics.flags.all() == {}
    assert server.requests == []


async def test_a_refusal_in_a_carrier_counts_in_async_code_too(server: Server) -> None:
    analytics = client(server).bind(TrackingContext.from_carrier({"ss_opted_out": "1"}), user_id="user_1")
    assert await analytics.flags.aget("cta-color", "blue") == "blue"
    assert server.requests == []


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_async_code_waits_without_blocking_and_sync_code_then_knows(server: Server, anyio_backend: str) -> None:
    analytics = client(server).for_request(COOKIES)
    assert await analytics.flags.aget("new-checkout") is True
    assert await analytics.flags.aget("cta-color", "blue") == "green"
    assert await analytics.flags.aall() == {"new-checkout": True, "cta-color": "green"}
    assert analytics.flags.get("new-checkout") is True
    [definition] = await analytics.flags.alist()
    assert definition.key == "cta-color"
    assert len(server.requests) == 2


async def test_concurrent_tasks_of_a_request_share_one_call(server: Server) -> None:
    flags = client(server).for_request(COOKIES).flags
    found = await asyncio.gather(flags.aget("new-checkout"), flags.aget("cta-color", "x"), flags.aget("none", "x"))
    assert [*found] == [True, "green", "x"]
    assert len(server.requests) == 1


async def test_a_call_that_would_block_the_event_loop_is_wrong(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("all", "list"):
        with pytest.raises(InvalidEventError, match="would block the event loop: use await with aget"):
            getattr(client(server).for_request(COOKIES).flags, name)()
    with caplog.at_level(logging.WARNING):
        assert client(server, strict=False).for_request(COOKIES).flags.get("cta-color", "blue") == "blue"
        assert client(server, strict=False).for_request(COOKIES).flags.list() == ()
    assert "would block the event loop" in caplog.text
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((" ",), {}),
        ((7,), {}),
        ((), {}),
        (("new-checkout", None), {}),
        (("new-checkout", 1), {}),
        (("new-checkout",), {"plan": "pro"}),
    ],
)
def test_a_wrong_call_raises_in_strict_mode_and_has_the_default_in_production(
    server: Server, arguments: tuple[Any, ...], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidEventError):
        client(server).for_request(COOKIES).flags.get(*arguments, **options)
    with caplog.at_level(logging.WARNING):
        client(server, strict=False).for_request(COOKIES).flags.get(*arguments, **options)
    assert caplog.text


@pytest.mark.parametrize(("given", "attributes"), [((), {"plan": ["pro"]}), (({"plan": "pro"},), {})])
def test_wrong_attributes_are_not_sent(server: Server, given: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    with pytest.raises((InvalidEventError, InvalidPropertiesError)):
        client(server).for_request(COOKIES).flags.target(*given, **attributes)
    client(server, strict=False).for_request(COOKIES).flags.target(*given, **attributes).all()
    assert evaluated(server) == [{"visitorId": "visitor-1", "sessionId": "session-1"}]


def test_the_definitions_of_flags_are_listed(server: Server) -> None:
    [definition] = client(server, "a shop").analytics.flags.list()
    assert (definition.key, definition.type, definition.default_value) == ("cta-color", "string", "blue")
    [request] = server.requests
    assert (request.method, request.target) == ("GET", "/v1/flags/list?propertyId=a%20shop")
    assert request.headers["x-api-key"] == "sessionsight_sec_1"


def test_the_first_selected_destination_is_asked(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    made = client(server, "eu", "us")
    made.for_request(COOKIES).flags.all()
    made.for_request(COOKIES).only("us").flags.all()
    made.for_request(COOKIES).only("us").flags.list()
    assert [request.json["propertyId"] for request in server.requests[:2]] == ["eu", "us"]
    assert server.requests[2].target.endswith("propertyId=us")
    assert made.for_request(COOKIES).only("signal").flags.all() == {}
    choosing = client(server, "eu", "us", choose_destinations=lambda request: "us")
    choosing.for_request(COOKIES).flags.all()
    assert server.requests[3].json["propertyId"] == "us"
    choosing.for_request(COOKIES).flags.list()
    assert server.requests[4].target.endswith("propertyId=us")
    failing = client(server, strict=False, choose_destinations=lambda request: 1 / 0)
    assert failing.for_request(COOKIES).flags.all() == {}
    assert failing.for_request(COOKIES).flags.list() == ()
    assert client(server, strict=False).for_request(COOKIES).only("a typo").flags.all() == {}
    assert len(server.requests) == 5


def test_definitions_are_read_for_a_visitor_who_has_refused_unless_the_destination_is_unknown(server: Server) -> None:
    refusing = client(server, consent=lambda data: False)
    assert len(Analytics(RequestScope(refusing, Visit(COOKIES))).flags.list()) == 1
    choosing = client(server, "eu", "us", consent=lambda data: False, choose_destinations=lambda request: "us")
    assert Analytics(RequestScope(choosing, Visit(COOKIES))).flags.list() == ()
    assert len(server.requests) == 1


def test_the_user_of_a_copy_of_the_request_counts(server: Server) -> None:
    class Original(Visit):
        def copy_of_caller(self) -> Visit:
            return Visit(COOKIES, user="user_1")

    scope = RequestScope(client(server), Original(COOKIES))
    assert Analytics(scope).flags.get("new-checkout") is True
    assert evaluated(server) == [{"userId": "user_1", "visitorId": "visitor-1", "sessionId": "session-1"}]


def test_carried_and_pickled_work_has_the_flags_of_its_request(server: Server) -> None:
    def all_flags() -> object:
        return sessionsight.current().flags.all()

    made = client(server)
    context = TrackingContext.from_carrier({"ss_vid": "visitor-1"})
    with made.scope(context) as analytics:
        analytics.flags.target(plan="pro").all()
        found = sessionsight.carry(all_flags)()
    assert found == {"new-checkout": True, "cta-color": "green"}
    set_default_client(made)
    pickle.loads(pickle.dumps(analytics)).flags.all()
    assert evaluated(server) == [{"plan": "pro", "visitorId": "visitor-1"}] * 2


def test_a_missing_destination_is_logged_and_disabling_is_not(caplog: pytest.LogCaptureFixture) -> None:
    signal = (Signal(api_key="key_1", project_id="shop"),)
    with caplog.at_level(logging.WARNING):
        assert Client(Settings(destinations=signal, disabled=True)).analytics.flags.all() == {}
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert Client(Settings(destinations=signal)).analytics.flags.list() == ()
    assert "the destination sessionsight is missing" in caplog.text


def test_code_outside_requests_binds_a_context(server: Server) -> None:
    made = client(server)
    context = TrackingContext.from_carrier({"ss_sid": "session-1", "ss_vid": "visitor-1"})
    with made.scope(context, user_id="user_1"):
        assert sessionsight.current().flags.get("new-checkout")
        assert sessionsight.current().flags.get("cta-color", "") == "green"
    made.bind(context).flags.all()
    assert evaluated(server) == [
        {"userId": "user_1", "visitorId": "visitor-1", "sessionId": "session-1"},
        {"visitorId": "visitor-1", "sessionId": "session-1"},
    ]


def test_tests_set_flags_and_nothing_goes_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = client(server)
    with record() as analytics:
        analytics.flags["new-checkout"] = True
        assert made.for_request(COOKIES).flags.all() == {"new-checkout": True}
        assert made.for_request(COOKIES).flags.list() == ()
        assert (
            made.for_request(
                "ss_vid=visitor-2",
            ).flags.get("cta-color", "blue")
            == "blue"
        )
        with record() as inner:
            inner.flags["cta-color"] = "red"
            assert made.for_request(COOKIES).flags.all() == {"new-checkout": True, "cta-color": "red"}
    monkeypatch.setattr(test_mode, "_allowances", 0)  # this suite delivers
    with suppress_delivery():
        assert made.for_request(COOKIES).flags.all() == {}
    assert server.requests == []


def test_unpickled_analytics_ask_again_and_need_a_client(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    made = sessionsight.configure(
        destinations={
            "sessionsight": {
                "secret_api_key": "sessionsight_sec_1",
                "property_id": "shop",
                "api_url": server.url,
                "flags_timeout": PATIENCE / 2,
            }
        }
    )
    analytics = made.for_request(COOKIES)
    analytics.flags.all()
    again = pickle.loads(pickle.dumps(analytics))
    assert again.flags.get("new-checkout") is True
    assert len(evaluated(server)) == 2
    again = pickle.loads(pickle.dumps(analytics))
    set_default_client(None)
    assert again.flags.get("new-checkout") is False
    assert "there is no analytics client in this process" in caplog.text
