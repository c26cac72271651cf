from itertools import cycle

import httpx
import pytest

from sessionsight.inspector.fault_injection import Faults, FaultsError, Injector
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.options import Options
from sessionsight.inspector.server import RunningInspector
from tests.core.inspector.calls import BEARER, SECRET, event, goal
from tests.core.inspector.conftest import StartInspector


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"fail": "200"}, "fail: must be written as 500:0.3, not '200'"),
        ({"fail": "500:2"}, "fail"),
        ({"fail": "500:x"}, "fail"),
        ({"latency": "fast"}, "latency"),
        ({"latency": "60000"}, "latency: must be written as 200 or 200-800, not '60000'"),
        ({"rate_limit": "0/s"}, "rate_limit"),
        ({"rate_limit": "10"}, "rate_limit"),
        ({"rate_limit": "10/s\n"}, "rate_limit"),
    ],
)
def test_what_means_no_fault_is_an_error(written: dict[str, str], message: str) -> None:
    with pytest.raises(FaultsError, match=message):
        Faults(**written).validated()


def test_empty_texts_are_no_faults() -> None:
    assert Faults(fail="", latency="", rate_limit="").validated() == Faults()


def test_a_part_of_all_calls_fails() -> None:
    injector = Injector(Faults(fail="503:0.3"))
    chances = cycle([0.29, 0.3, 0.99])
    decided = [injector.decide("signal", now=0, chance=lambda: next(chances)).status for _ in range(3)]
    assert decided == [503, None, None]
    assert Injector(Faults(fail="500")).decide("signal", now=0, chance=lambda: 0.999).status == 500


@pytest.mark.parametrize(("latency", "delay"), [("200", 0.2), ("200-800", 0.5), ("800-200", 0.5), (None, 0)])
def test_latency_is_chosen_from_a_range(latency: str | None, delay: float) -> None:
    assert Injector(Faults(latency=latency)).decide("signal", now=0, chance=lambda: 0.5).delay == delay


def test_a_rate_limit_counts_each_vendor_in_a_sliding_window() -> None:
    injector = Injector(Faults(rate_limit="2/m"))

    def status(vendor: str, now: float) -> int | None:
        return injector.decide(vendor, now=now, chance=lambda: 0).status

    assert [status("signal", now) for now in (0, 10, 20, 59)] == [None, None, 429, 429]
    assert status("saytics", 20) is None
    refused = injector.decide("signal", now=50, chance=lambda: 0)
    assert refused.headers == {"Retry-After": "10"}
    assert [status("signal", now) for now in (60, 61, 70)] == [None, 429, None]


def test_a_fault_takes_the_place_of_the_reply_in_the_vendors_form(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    assert http.put("/api/faults", json={"fail": "500"}).json() == {"fail": "500", "latency": None, "rate_limit": None}
    assert http.get("/api/faults").json()["fail"] == "500"
    failed = http.post("/v1/goals/increment", json=goal(), headers=SECRET)
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "HTTP_500"
    (record,) = inspector.store.records(Filter()).records
    assert record.errors == ["answered 500 on demand: fail 500"]
    request = inspector.store.request(record.request_id)
    assert request is not None
    assert (request.status, request.fault) == (500, "fail 500")
    assert http.put("/api/faults", json={}).json()["fail"] is None
    assert http.post("/v1/goals/increment", json=goal(), headers=SECRET).status_code == 200


def test_too_many_calls_are_answered_429_with_a_time_to_wait(start_inspector: StartInspector) -> None:
    inspector = start_inspector(Options(port=0, faults=Faults(rate_limit="1/h")))
    with httpx.Client(base_url=inspector.url, trust_env=False) as http:
        first, second = (http.post("/v1/events", json=event(), headers=BEARER) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["code"] == "rate_limited"
    assert 3590 <= int(second.headers["retry-after"]) <= 3600


def test_latency_is_real_and_is_measured(http: httpx.Client, inspector: RunningInspector) -> None:
    http.put("/api/faults", json={"latency": "50"})
    http.post("/v1/goals/increment", json=goal(), headers=SECRET)
    (record,) = inspector.store.records(Filter()).records
    request = inspector.store.request(record.request_id)
    assert request is not None
    assert request.latency_ms >= 50
    assert record.accepted


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"fail":7}', b'{"fall":"500"}', b'{"fail":"x"}', b"[" * 20_000]
)
def test_wrong_faults_are_refused(http: httpx.Client, body: bytes) -> None:
    response = http.put("/api/faults", content=body)
    assert response.status_code == 400
    assert response.json()["error"]
