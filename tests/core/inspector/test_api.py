import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from sessionsight.inspector.server import RunningInspector
from tests.core.inspector.calls import BEARER, SECRET, SESSION, SIGNAL, batch, capture, event, goal
from tests.core.inspector.values import received, record
from tests.support.server import until


@pytest.fixture
def sent(http: httpx.Client) -> None:
    """A goal, a batch of two events, and a refused event."""
    assert http.post("/v1/goals/increment", json=goal(amount=49), headers=SECRET).is_success
    two = batch(capture(sessionId="s/1"), capture(event="$pageview", sessionId="s/1"))
    assert http.post("/v1/capture", json=two, headers=SIGNAL).is_success
    assert http.post("/v1/events", json=event(event=7, userId="user_2"), headers=BEARER).status_code == 400


def get(http: httpx.Client, path: str, **query: Any) -> Any:
    response = http.get(f"/api/{path}", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def names(page: Any) -> list[str]:
    return [record["name"] for record in page["records"]]


@pytest.mark.usefixtures("sent")
def test_records_are_filtered_and_paged(http: httpx.Client) -> None:
    assert names(get(http, "records")) == ["", "$pageview", "Report Exported", "user-signups"]
    assert names(get(http, "records", vendor="signal", event="$pageview")) == ["$pageview"]
    assert names(get(http, "records", status="refused")) == [""]
    page = get(http, "records", limit=3)
    assert names(get(http, "records", limit=3, before=page["next"])) == ["user-signups"]


@pytest.mark.usefixtures("sent")
def test_a_record_leads_to_its_request(http: httpx.Client) -> None:
    (listed,) = get(http, "records", kind="goal")["records"]
    assert get(http, f"records/{listed['id']}") == listed
    request = get(http, f"requests/{listed['request_id']}")
    assert (request["method"], request["path"], request["status"]) == ("POST", "/v1/goals/increment", 200)
    assert msgspec.json.decode(base64.b64decode(request["body"])) == goal(amount=49)
    assert ["x-api-key", "sessions…"] in request["headers"]


def test_no_key_is_kept(http: httpx.Client, inspector: RunningInspector) -> None:
    secrets = ("sessionsight_sec_1", "signal_key_123456", "sk_live_1234567890", "cookie-of-mine")
    http.post("/v1/goals/increment", json=goal(), headers={**SECRET, "cookie": f"a={secrets[3]}"})
    http.post("/v1/capture", json=batch(capture(), apiKey=secrets[1]))
    http.post("/v1/sdk/goals/increment", json=goal(apiKey=secrets[0]))
    http.post("/v1/events", json=event(), headers=BEARER)
    kept = " ".join(repr(inspector.store.request(number + 1)) for number in range(inspector.store.newest()))
    kept += http.get("/api/records").text
    assert not [secret for secret in secrets if secret in kept]


@pytest.mark.usefixtures("sent")
def test_sums_are_given(http: httpx.Client) -> None:
    (total,) = get(http, "goals")["goals"]
    assert (total["goal_id"], total["total"]) == ("user-signups", 49)
    one = get(http, "goals/user-signups")
    assert (one["goal"], one["series"]) == (total, [[total["last"], 49]])
    sessions = get(http, "sessions")
    assert [session["session_id"] for session in sessions["sessions"]] == ["s/1", SESSION]
    first = get(http, "sessions", limit=1)
    assert [one["session_id"] for one in get(http, "sessions", before=first["next"])["sessions"]] == [SESSION]
    assert get(http, "sessions/s/1")["session_id"] == "s/1"
    assert [one["name"] for one in get(http, "sessions/s/1")["records"]] == ["Report Exported", "$pageview"]
    assert get(http, "counts")["total"] == 4
    assert {one["vendor"]: one["refused"] for one in get(http, "health")["vendors"]}["saytics"] == 1


@pytest.mark.usefixtures("sent")
def test_everything_can_be_removed(http: httpx.Client) -> None:
    assert http.delete("/api/records").json() == {"removed": 4}
    assert get(http, "records") == {"records": [], "next": None}


@pytest.mark.parametrize(
    "path", ["records/1", "requests/1", f"records/{2**63}", "records/x", "goals/x", "sessions/x", "nothing"]
)
def test_what_is_not_there_is_404(http: httpx.Client, path: str) -> None:
    response = http.get(f"/api/{path}")
    assert response.status_code == 404
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("records?vender=signal", "vender: there is no such parameter"),
        ("records?vendor=x", "vendor: "),
        ("records?limit=0", "limit: "),
        ("records?limit=1001", "limit: "),
        ("records?before=-1", "before: "),
        ("records?before=null", "before: "),
        ("records?user=", "user: must be given once, with a value, or not at all"),
        ("records?user=a&user=b", "user: must be given once, with a value, or not at all"),
        ("wait?timeout=61", "timeout: "),
        ("wait?timeout=nan", "timeout: "),
        ("wait?count=x", "count: "),
        ("stream?limit=1", "limit: there is no such parameter"),
        ("goals?limit=1", "limit: there is no such parameter"),
    ],
)
def test_a_wrong_parameter_is_named(http: httpx.Client, path: str, problem: str) -> None:
    response = http.get(f"/api/{path}")
    assert response.status_code == 400
    assert response.json()["error"].startswith(problem)


def test_saytics_tells_of_users_what_it_was_told(http: httpx.Client) -> None:
    person = {"userId": "user_1", "traits": {"name": "You"}}
    assert http.get("/v1/users/user_1", headers=BEARER).status_code == 404
    assert http.post("/v1/users/identify", json=person, headers=BEARER).is_success
    assert http.get("/v1/users/user_1", headers=BEARER).json()["traits"] == {"name": "You"}


def test_other_methods_are_405(http: httpx.Client) -> None:
    response = http.post("/api/goals")
    assert response.status_code == 405
    assert response.json() == {"error": "Method Not Allowed"}
    assert set(http.post("/api/faults").headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}


def test_waiting_ends_when_the_records_are_there(http: httpx.Client, inspector: RunningInspector) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, http, "wait", count=2, timeout=60, user="u")
        until(lambda: inspector.store._listeners, "somebody waits")
        inspector.store.add(received(), [record(user_id="u"), record(user_id="somebody else")])
        inspector.store.add(received(), [record(user_id="u")])
        assert waiting.result(30) == {"count": 2, "reached": True}
    assert inspector.store._listeners == []


def test_waiting_until_the_timeout_returns_how_many_there_are(http: httpx.Client, inspector: RunningInspector) -> None:
    inspector.store.add(received(), [record()])
    assert get(http, "wait", count=2, timeout=0.01) == {"count": 1, "reached": False}
    assert get(http, "wait", count=0, timeout=0) == {"count": 1, "reached": True}


# --- The stream -----------------------------------------------------------------------------------


class Stream:
    """Server-sent events, one by one."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.headers["content-type"].startswith("text/event-stream")
        self._lines = response.iter_lines()
        assert self.next() == {"retry": "1000"}

    def next(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line and fields:
                return fields
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        raise AssertionError("the stream has ended")

    def ended(self) -> bool:
        return not any(self._lines)


def records_of(stream: Stream, number: int) -> Iterator[str]:
    for _ in range(number):
        event = stream.next()
        assert event["event"] == "record"
        told = msgspec.json.decode(event["data"])
        assert str(told["id"]) == event["id"]
        yield told["name"]


def test_the_stream_tells_of_new_records_that_are_wanted(http: httpx.Client, inspector: RunningInspector) -> None:
    inspector.store.add(received(), [record(name="before")])
    with http.stream("GET", "/api/stream", params={"user": "u"}) as response:
        stream = Stream(response)
        inspector.store.add(
            received(), [record(name="a", user_id="u"), record(name="b"), record(name="c", user_id="u")]
        )
        assert list(records_of(stream, 2)) == ["a", "c"]
        inspector.store.add(received(), [record(name="b"), record(name="next", user_id="u")])
        assert list(records_of(stream, 1)) == ["next"]
        inspector.store.clear()
        assert stream.next()["event"] == "cleared"
        inspector.store.add(received(), [record(name="d", user_id="u")])
        assert list(records_of(stream, 1)) == ["d"]


def test_the_stream_continues_where_it_was_left(http: httpx.Client, inspector: RunningInspector) -> None:
    first, *_ = inspector.store.add(received(), [record(name="a"), record(name="b"), record(name="c")])
    with http.stream("GET", "/api/stream", headers={"Last-Event-ID": str(first.id)}) as response:
        assert list(records_of(Stream(response), 2)) == ["b", "c"]
    with http.stream("GET", "/api/stream", params={"after": first.id + 1}) as response:
        assert list(records_of(Stream(response), 1)) == ["c"]


def test_who_has_missed_too_much_is_told_to_reload(http: httpx.Client, inspector: RunningInspector) -> None:
    first, *_ = inspector.store.add(received(), [record()] * 1001)
    with http.stream("GET", "/api/stream", params={"after": first.id}) as response:
        assert list(records_of(Stream(response), 1000)) == ["Report Exported"] * 1000
    inspector.store.add(received(), [record()])
    with http.stream("GET", "/api/stream", params={"after": first.id}) as response:
        stream = Stream(response)
        assert stream.next()["event"] == "reload"
        inspector.store.add(received(), [record(name="new")])
        assert list(records_of(stream, 1)) == ["new"]
