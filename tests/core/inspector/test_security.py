"""Foreign pages and foreign names reach nothing but the vendors' endpoints."""

import httpx
import pytest

from sessionsight.inspector.options import Options
from sessionsight.inspector.security import CONTENT_SECURITY_POLICY
from sessionsight.inspector.server import RunningInspector
from tests.core.inspector.calls import SECRET, goal
from tests.core.inspector.conftest import StartInspector

SHOP = "https://shop.example.com"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7717", "127.0.0.1:1", "[::1]:7717", "shop.localhost:80"])
def test_loopback_names_are_answered(http: httpx.Client, host: str) -> None:
    assert http.get("/api/counts", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["rebound.example.com", "10.0.0.1", "localhost.example.com", "notlocalhost", "", "[::1", "127.0.0.1@x.example"],
)
@pytest.mark.parametrize("path", ["/", "/api/records", "/v1/goals/increment", "/static/inspector.css"])
def test_other_names_are_not(http: httpx.Client, host: str, path: str) -> None:
    response = http.get(path, headers={"host": host})
    assert response.status_code in {400, 403}


def test_a_host_that_was_asked_for_is_answered(start_inspector: StartInspector) -> None:
    by_name = start_inspector(Options(port=0, host="localhost"))
    on_all = start_inspector(Options(port=0, host="0.0.0.0"))
    assert httpx.get(f"{by_name.url}/api/counts", trust_env=False).status_code == 200
    for host in ("inspector.example.com", "[::1"):
        anywhere = httpx.get(f"{on_all.url}/api/counts", headers={"host": host}, trust_env=False)
        assert anywhere.status_code == 200
        sent = {**SECRET, "host": host}
        posted = httpx.post(f"{on_all.url}/v1/goals/increment", json=goal(), headers=sent, trust_env=False)
        assert posted.status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/records", "/health", "/nothing", "/static/inspector.js"])
def test_pages_may_load_nothing_from_elsewhere(http: httpx.Client, path: str) -> None:
    headers = http.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


def test_the_policy_is_the_strict_one() -> None:
    directives = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert directives.pop("img-src") == "'self' data:"
    assert {directives.pop(name) for name in ("default-src", "base-uri", "frame-ancestors")} == {"'none'"}
    assert set(directives.values()) == {"'self'"}


@pytest.mark.parametrize("origin", [SHOP, "null", "http://localhost:1"])
@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/records"), ("PUT", "/api/faults"), ("POST", "/clear")])
def test_foreign_pages_change_nothing(
    http: httpx.Client, inspector: RunningInspector, origin: str, method: str, path: str
) -> None:
    response = http.request(method, path, headers={"origin": origin}, json={"fail": "500"})
    assert response.status_code == 403
    assert http.request("DELETE", "/api/records", headers={"origin": inspector.url}).status_code == 200


def test_the_vendors_endpoints_are_open_to_every_page(http: httpx.Client) -> None:
    asked = {
        "origin": SHOP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, content-type",
    }
    preflight = http.options("/v1/goals/increment", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "x-api-key, content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    beacon = http.post(
        "/v1/sdk/goals/increment",
        json=goal(apiKey="sessionsight_pub_1"),
        headers={"origin": SHOP, "content-type": "text/plain"},
    )
    refused = http.post("/v1/goals/increment", json=goal(), headers={"origin": SHOP})
    for response in (preflight, beacon, refused):
        assert response.headers["access-control-allow-origin"] == SHOP
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["vary"] == "Origin"
    assert (beacon.status_code, refused.status_code) == (200, 401)
    assert "access-control-allow-origin" not in http.post("/v1/goals/increment", json=goal(), headers=SECRET).headers
