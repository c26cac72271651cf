"""Whatever is sent: a vendor's answer, records that can be kept and shown, and never an internal error."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.inspector.filters import Filter
from sessionsight.inspector.ingest import INGESTS, base
from sessionsight.inspector.model import RecordedRequest
from sessionsight.inspector.server import RunningInspector
from sessionsight.inspector.store import Store
from tests.core.inspector.calls import BEARER, SECRET, batch, capture, event, goal, pulse, pulses
from tests.core.inspector.ingest.asking import NOW, ask

PATHS = [
    (endpoint.method, endpoint.path.replace("{id}", "user_1")) for ingest in INGESTS for endpoint in ingest.endpoints
]
METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD"])
KEYS = {**SECRET, **BEARER}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8")),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def mutated(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A right record with some fields made wrong, and strange ones added."""
    wrong = st.dictionaries(st.sampled_from([*whole]) | st.text(max_size=6), values, max_size=4)
    return wrong.map(lambda changes: {**whole, **changes})


events = st.one_of(*(mutated(whole) for whole in (event(), pulse(), capture(), goal()))) | values
bodies = st.one_of(
    events,
    mutated(pulses(apiKey="sessionsight_pub_1")),
    st.lists(events, max_size=4).map(lambda items: {**pulses(*items), **batch(*items)}),
)


@given(st.sampled_from(PATHS), bodies)
def test_any_json_is_answered_and_can_be_kept_and_found(path: tuple[str, str], body: Any) -> None:
    method, target = path
    encoded = msgspec.json.encode(body)
    outcome = ask(target, encoded, KEYS, method=method)
    assert outcome.reply.status in {200, 400, 401, 404}
    assert (outcome.reply.status == 200) == all(record.accepted for record in outcome.records) or not outcome.records
    with Store() as store:
        received = RecordedRequest(
            received_at=NOW, method=method, path=target, body=encoded, status=outcome.reply.status
        )
        added = store.add(received, outcome.records)
        assert store.records(Filter(), limit=100).records == added[::-1]
        for record in added:
            assert store.record(record.id) == record
            assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)).id == record.id
            assert record.accepted or record.errors
            if record.session_id is not None:
                assert record in store.session(record.session_id)


def raw_bodies() -> Iterable[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=200)
    yield st.binary(max_size=200).map(zlib.compress)
    yield bodies.map(msgspec.json.encode)
    yield bodies.map(msgspec.json.encode).map(lambda body: zlib.compress(body, wbits=31))


def test_any_request_gets_a_vendors_answer(http: httpx.Client, inspector: RunningInspector) -> None:
    headers = st.fixed_dictionaries(
        {},
        optional={
            "content-encoding": st.sampled_from(["gzip", "identity", "br", "GZIP", ""]),
            "authorization": st.sampled_from(["", "Bearer", "Bearer x", "Bearer sk_write_1", "Basic Og=="]),
            "x-api-key": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
            "origin": st.sampled_from(["null", "https://shop.example.com", "x"]),
            "content-type": st.sampled_from(["text/plain", "application/json", ""]),
            # Without DEL, with which a server refuses the request before the inspector sees it.
            "user-agent": st.text(
                st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12
            ).map(lambda text: text.strip().encode("latin-1")),
        },
    )
    targets = st.sampled_from([path for _, path in PATHS]) | st.sampled_from(
        ["/v1/", "/v1/%ff", "/v1/events/", "/v1//"]
    )

    @given(
        METHODS,
        targets,
        headers,
        st.one_of(*raw_bodies()),
    )
    def sends(method: str, target: str, headers: dict[str, Any], body: bytes) -> None:
        named = {name: value.strip() if isinstance(value, str) else value for name, value in headers.items()}
        response = http.request(method, target, headers=named, content=body)
        assert response.status_code in {200, 204, 400, 401, 404, 405, 415}
        if response.content:
            response.json()

    sends()
    assert http.get("/api/records", params={"limit": 1000}).status_code == 200
    assert http.get("/").status_code == 200


def test_too_much_is_refused_before_it_is_unzipped(http: httpx.Client, inspector: RunningInspector) -> None:
    bomb = zlib.compress(b" " * (base.MAX_BODY + 1), wbits=31)
    zipped = http.post("/v1/goals/increment", content=bomb, headers={**SECRET, "content-encoding": "gzip"})
    plain = http.post("/v1/goals/increment", content=b" " * (base.MAX_BODY + 1), headers=SECRET)
    assert (zipped.status_code, plain.status_code) == (413, 413)
    assert zipped.json()["error"]["code"] == "TOO_LARGE"
    cut = zlib.compress(msgspec.json.encode(goal()), wbits=31)[:-4]
    short = http.post("/v1/goals/increment", content=cut, headers={**SECRET, "content-encoding": "gzip"})
    assert "ends too early" in short.json()["error"]["message"]
    assert inspector.store.counts().total == 0


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("br", b"{}", "content-encoding: must be gzip, not 'br'"),
        ("gzip", b"{}", "body: is not gzip, as content-encoding says"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-9], "body: the gzip data ends too early"),
    ],
    ids=["unknown", "not gzip", "cut"],
)
def test_a_body_that_cannot_be_decompressed_is_rejected(encoding: str, body: bytes, message: str) -> None:
    with pytest.raises(base.RequestRejected, match=re.escape(message)):
        base.unzip(body, encoding)


def test_a_compressed_body_is_taken(http: httpx.Client) -> None:
    body = gzip.compress(json.dumps(goal()).encode())
    taken = http.post("/v1/goals/increment", content=body, headers={**SECRET, "content-encoding": "gzip"})
    assert taken.status_code == 200, taken.text
