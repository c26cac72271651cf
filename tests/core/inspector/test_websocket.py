import json

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sessionsight.inspector.app import create_app
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.ingest import visitors
from sessionsight.inspector.options import Options
from sessionsight.inspector.store import Store
from tests.core.inspector.calls import SESSION, VISITOR

RECORDING = {"sessionId": SESSION, "propertyId": "shop", "visitorId": VISITOR, "events": []}
PAGE = "/ws/ingest?key=sessionsight_pub_1&propertyId=shop"


def test_a_recording_comes_through_the_websocket_as_through_the_endpoint(store: Store) -> None:
    with TestClient(create_app(store)) as browser, browser.websocket_connect(PAGE) as socket:
        assert socket.receive_json() == {"type": "ready"}
        socket.send_json(RECORDING)
        granted = socket.receive_json()
        assert granted["type"] == "rotate_visitor_token"
        assert visitors.visitor_of(granted["visitorToken"]) == VISITOR
        socket.send_text("not JSON")
        socket.send_json({**RECORDING, "id": "user_1"})
        socket.receive_json()
    records = store.records(Filter(), limit=10).records[::-1]
    assert [(record.name, record.session_id) for record in records] == [
        ("recording", SESSION),
        ("recording", SESSION),
        ("identify", SESSION),
    ]
    received = store.request(records[0].request_id)
    assert received is not None
    assert (received.method, received.path, received.status) == ("WEBSOCKET", "/ws/ingest", 200)
    assert json.loads(received.body) == RECORDING
    refused = store.request(records[0].request_id + 1)
    assert refused is not None
    assert (refused.status, refused.body) == (400, b"not JSON")


def test_bytes_end_the_websocket(store: Store) -> None:
    with TestClient(create_app(store)) as browser, browser.websocket_connect(PAGE) as socket:
        socket.receive_json()
        socket.send_bytes(b"{}")
    assert store.counts().total == 0


@pytest.mark.parametrize("key", ["", "sessionsight_sec_1", "another"])
def test_a_wrong_key_closes_the_websocket_with_the_vendors_code(store: Store, key: str) -> None:
    options = Options(keys={"sessionsight": frozenset({"sessionsight_pub_1", "sessionsight_sec_1"})})
    with (
        TestClient(create_app(store, options)) as browser,
        browser.websocket_connect(f"/ws/ingest?key={key}") as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_json()
    assert closed.value.code == 4001


def test_who_comes_without_a_websocket_is_told_where_to_go(store: Store) -> None:
    with TestClient(create_app(store), base_url="http://localhost") as browser:
        reply = browser.get("/ws/ingest")
    assert reply.status_code == 426
    assert "POST /v1/ingest" in reply.json()["error"]["message"]
