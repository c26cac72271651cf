"""The pages say what was received, without a script."""

import html
import json
import re
import shlex
from typing import Any

import httpx
import pytest

from sessionsight.inspector.model import InspectedRecord
from sessionsight.inspector.security import CONTENT_SECURITY_POLICY
from sessionsight.inspector.server import RunningInspector
from tests.core.inspector.calls import (
    BEARER,
    SECRET,
    SESSION,
    SIGNAL,
    VISITOR,
    batch,
    capture,
    event,
    goal,
    pulse,
    pulses,
)
from tests.core.inspector.samples import START, WINDOW, keep, record
from tests.core.inspector.samples import goal as kept_goal

PAGES = ["/", "/sessions", "/goals", "/health"]
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def text(page: httpx.Response) -> str:
    """Return the text of a page, without its markup."""
    page.raise_for_status()
    return " ".join(
        html.unescape(re.sub(r"<(svg|script|style).*?</\1>|<[^>]+>", " ", page.text, flags=re.DOTALL)).split()
    )


def names(page: httpx.Response) -> list[str]:
    """The names of the records in the page's list."""
    return [html.unescape(name) for name in re.findall(r"data-row>(.*?)</a>", page.text)]


def send_one_of_each(http: httpx.Client) -> None:
    http.post("/v1/goals/increment", json=goal(amount=49, goalId="monthly-revenue"), headers=SECRET)
    http.post("/v1/events", json=event(), headers=BEARER)
    http.post("/v1/batch", json=pulses(pulse()))
    signal = capture(sessionId="signal-1", windowId=WINDOW, properties={"$current_url": "https://shop.example.com/pay"})
    http.post("/v1/capture", json=batch(signal, capture(event="Second")), headers=SIGNAL)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_guarded_and_brings_nothing_inline(http: httpx.Client, path: str) -> None:
    for filled in (False, True):
        if filled:
            send_one_of_each(http)
        page = http.get(path)
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)|javascript:", page.text)
        assert re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text) == []


def test_an_empty_stream_has_a_command_that_fills_it(http: httpx.Client, inspector: RunningInspector) -> None:
    [lines] = re.findall(r'<pre id="by-hand".*?>(.*?)</pre>', http.get("/").text, re.DOTALL)
    command, url, *options = shlex.split(html.unescape(lines).replace("\\\n", ""))
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = [value.split(": ", 1) for name, value in zip(options[::2], options[1::2], strict=True) if name == "-H"]
    assert (command, url) == ("curl", f"{inspector.url}/v1/events")
    http.post(url, content=given["--data"], headers=dict(headers)).raise_for_status()
    assert names(http.get("/")) == ["Report Exported"]
    assert inspector.store.counts().accepted == 1


@pytest.mark.parametrize("path", ["/", "/sessions", "/goals"])
def test_an_empty_page_has_the_lines_to_paste(http: httpx.Client, inspector: RunningInspector, path: str) -> None:
    page = text(http.get(path))
    assert 'MIDDLEWARE += ["sessionsight_django.AnalyticsMiddleware"]' in page
    assert "SessionSight().init_app(app)" in page
    assert "app.add_middleware(AnalyticsMiddleware, destinations=" in page
    assert "request.analytics." in page
    assert f'INSPECTOR = "{inspector.url}"' in page


def test_the_stream_lists_the_newest_first(http: httpx.Client) -> None:
    send_one_of_each(http)
    page = http.get("/")
    assert names(page) == ["Second", "Report Exported", "signup_completed", "User Signed Up", "monthly-revenue"]
    assert "5 records" in text(page)
    assert "+49" in text(page)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("vendor=signal", ["Second", "Report Exported"]),
        ("kind=goal", ["monthly-revenue"]),
        (f"session={SESSION}", ["monthly-revenue"]),
        (f"visitor={VISITOR}", ["signup_completed"]),
        ("user=user_1&vendor=saytics", ["User Signed Up"]),
        ("event=Second", ["Second"]),
        ("text=SHOP.example", ["Report Exported"]),
        ("status=refused", []),
        ("text=&vendor=&kind=goal", ["monthly-revenue"]),
    ],
)
def test_the_stream_is_filtered_by_its_address(http: httpx.Client, query: str, found: list[str]) -> None:
    send_one_of_each(http)
    page = http.get(f"/?{query}")
    assert names(page) == found
    assert f"{len(found)} of 5 records" in text(page)
    assert found or "No record matches" in page.text


def test_the_filters_stand_in_the_form_and_in_the_stream_that_is_listened_to(http: httpx.Client) -> None:
    page = http.get("/", params={"text": HOSTILE, "vendor": "signal", "kind": "goal"})
    assert f'value="{html.escape(HOSTILE).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}"' in page.text
    assert "<option selected>goal" in page.text
    assert 'value="signal" checked' in page.text
    [stream] = re.findall(r'data-stream="(.*?)"', page.text)
    assert httpx.URL(html.unescape(stream)).params["text"] == HOSTILE


def test_a_filter_that_cannot_be_is_an_error_that_says_so(http: httpx.Client) -> None:
    page = http.get("/?vendor=nobody")
    assert page.status_code == 400
    assert "nobody" in page.text
    assert "Invalid filter" in page.text


def test_older_records_are_a_page_away(http: httpx.Client, inspector: RunningInspector) -> None:
    keep(inspector.store, *(record(number, name=f"event {number}") for number in range(120)))
    page, seen = http.get("/?vendor=signal"), []
    while True:
        seen += names(page)
        older = re.search(r'rel="next" href="(.*?)"', page.text)
        if older is None:
            break
        page = http.get(html.unescape(older[1]))
    assert seen == [f"event {number}" for number in reversed(range(120))]
    assert "Newest" in page.text


def test_days_stand_between_records(http: httpx.Client, inspector: RunningInspector) -> None:
    keep(inspector.store, record(0), record(86_400), record(86_401))
    assert len(re.findall(r'class="day"', http.get("/").text)) == 2


def test_a_record_has_its_facts_its_request_and_its_siblings(http: httpx.Client, inspector: RunningInspector) -> None:
    send_one_of_each(http)
    [wanted] = [one for one in inspector.store.since(0) if one.name == "Report Exported"]
    page = text(http.get(f"/records/{wanted.id}"))
    assert "The request of your app https://shop.example.com/pay" in page
    assert "POST /v1/capture HTTP/1.1" in page
    assert "authorization : Bearer signal_k…" in page
    assert SIGNAL["authorization"] not in page
    assert "Reply 200" in page
    assert "In the same request 2" in page
    assert "Sent by python-httpx" in page


def test_a_refused_record_says_which_rule_it_broke(http: httpx.Client, inspector: RunningInspector) -> None:
    http.post("/v1/goals/increment", json=goal(amount=-1), headers=SECRET)
    assert "1 refused" in text(http.get("/"))
    assert "amount: must be above zero" in text(http.get("/?status=refused"))
    page = text(http.get(f"/records/{inspector.store.since(0)[0].id}"))
    assert "Why SessionSight would refuse it amount: must be above zero" in page
    assert "Reply 400" in page


def test_a_record_whose_cause_is_unknown_leads_to_its_session(http: httpx.Client, inspector: RunningInspector) -> None:
    http.post("/v1/goals/increment", json=goal(), headers=SECRET)
    page = http.get(f"/records/{inspector.store.since(0)[0].id}")
    assert "This record does not name the request." in text(page)
    assert f'href="/sessions/{SESSION}"' in page.text


def test_a_record_without_a_session_leads_to_the_one_it_is_tied_to(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    keep(inspector.store, record(0, session_id="s-1", user_id="user_1"))
    [tied, stranger] = keep(
        inspector.store, record(1, vendor="saytics", user_id="user_1"), record(2, vendor="saytics", user_id="user_2")
    )
    assert 'href="/sessions/s-1"' in http.get(f"/records/{tied.id}").text
    assert "/sessions/s-1" not in http.get(f"/records/{stranger.id}").text


@pytest.mark.parametrize("tie", [{"user_id": "user_1"}, {"visitor_id": "visitor"}, {"session_id": "session"}])
def test_another_vendors_record_of_the_same_moment_names_the_cause(
    http: httpx.Client, inspector: RunningInspector, tie: dict[str, str]
) -> None:
    [wanted] = keep(inspector.store, record(0, vendor="saytics", **tie))
    for seconds, side, url in (
        (5, "server", "/later"),
        (0, "browser", "/page"),
        (0.5, "server", "/near"),
        (0.01, "server", "/pay"),
    ):
        keep(inspector.store, record(seconds, vendor="analyse", side=side, page_url=url, **tie))
    page = text(http.get(f"/records/{wanted.id}"))
    assert "The request of your app /pay This record does not name the request, but a record of Analyse.net of" in page


def test_a_body_that_is_not_json_is_shown_as_text_and_a_long_one_is_cut(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    [plain] = keep(inspector.store, record(), body=b"\xff<b>no json", fault="fail 500")
    assert "\N{REPLACEMENT CHARACTER}<b>no json" in text(page := http.get(f"/records/{plain.id}"))
    assert "because of an injected fault: fail 500" in text(page)
    [long] = keep(inspector.store, record(), body=b"x" * 100_000)
    assert "… 34,464 more characters" in text(http.get(f"/records/{long.id}"))
    [wide] = keep(inspector.store, record(), body=json.dumps(["y" * 100_000]).encode())
    assert "more characters" in text(http.get(f"/records/{wide.id}"))


def test_a_record_leads_to_its_neighbours(http: httpx.Client, inspector: RunningInspector) -> None:
    first, middle, last = keep(inspector.store, record(0), record(1), record(2))

    def neighbours(of: InspectedRecord) -> list[tuple[str, str]]:
        page = http.get(f"/records/{of.id}").text
        return re.findall(r'<a rel="(next|prev)" href="/records/(\d+)"', page)

    assert neighbours(middle) == [("next", str(first.id)), ("prev", str(last.id))]
    assert neighbours(first) == [("prev", str(middle.id))]
    assert neighbours(last) == [("next", str(middle.id))]


def test_of_many_properties_the_rest_is_folded_away(http: httpx.Client, inspector: RunningInspector) -> None:
    properties = {f"property {number}": {"n": number} for number in range(200)}
    [shown] = keep(inspector.store, record(properties=properties))
    page = http.get(f"/records/{shown.id}")
    assert "Properties 200" in text(page)
    assert "property 39 " in text(page).split("160 more")[0]
    assert "property 40 " not in text(page).split("160 more")[0]
    assert "property 199 " in text(page)


@pytest.mark.parametrize(
    ("occurred", "said"), [(0, ""), (-1.2, "1.2 s later"), (90, "1 min 30 s earlier: the clocks differ")]
)
def test_a_record_says_how_late_it_came(
    http: httpx.Client, inspector: RunningInspector, occurred: float, said: str
) -> None:
    [shown] = keep(inspector.store, record(occurred_at=START + occurred))
    page = text(http.get(f"/records/{shown.id}")).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(rf"Received [\d:.]+ {said} ?Sent by", page)


def test_a_sessions_page_lists_all_ids_and_leads_to_their_records(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    keep(inspector.store, record(0, session_id="s 1", user_id="u&1", visitor_id="v-1", window_id=WINDOW))
    keep(inspector.store, record(1, vendor="analyse", session_id="a-1", user_id="u&1"))
    page = http.get("/sessions/s%201")
    ids = page.text.split("Ids of this visit")[1].split("</details>")[0]
    assert re.findall(r'href="(.*?)"', ids) == ["/?session=s+1", "/?session=a-1", "/?user=u%261", "/?visitor=v-1"]
    assert re.findall(r'data-copy-text="(.*?)"', ids) == ["s 1", "a-1", "u&amp;1", "v-1", WINDOW]


def test_a_sessions_page_has_its_records_of_all_vendors_in_order(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    ids = {"session_id": "s-1", "user_id": "user_1"}
    keep(inspector.store, record(0, name="$pageview", side="browser", window_id=WINDOW, **ids))
    keep(inspector.store, record(2, name="Order Processed", vendor="saytics", user_id="user_1"))
    keep(inspector.store, kept_goal(1, session_id="s-1", accepted=False, errors=["amount: is too small"]))
    page = http.get("/sessions/s-1")
    assert names(page) == ["$pageview", "user-signups", "Order Processed"]
    assert "Window 1 7d0c3f52…" in text(page)
    assert "No window" in text(page)
    assert "user_1" in re.findall(r"<h1>(.*?)</h1>", page.text)[0]
    assert page.text.count('class="mark sessionsight refused"') == 2
    assert "amount: is too small" in page.text


def test_a_visit_is_listed_once_and_its_page_says_what_its_time_alone_ties(
    http: httpx.Client, inspector: RunningInspector
) -> None:
    keep(inspector.store, record(0, session_id="s-1", user_id="user_1"), kept_goal(1, session_id="page-1"))
    assert names(http.get("/sessions")) == ["user_1"]
    for session in ("s-1", "page-1"):
        page = http.get(f"/sessions/{session}")
        assert names(page) == ["order_processed", "user-signups"]
        assert "user-signups linked by time" in text(page)
        assert "order_processed linked by time" not in text(page)
        assert "Sessions / s-1" in text(page)


def test_of_a_very_long_session_the_latest_records_are_shown(http: httpx.Client, inspector: RunningInspector) -> None:
    keep(inspector.store, *(record(n, name=f"event {n}", session_id="s", window_id=f"w{n}") for n in range(700)))
    page = http.get("/sessions/s")
    assert names(page) == [f"event {n}" for n in range(200, 700)]
    assert "the latest 500 of 700 records" in text(page)
    assert "More windows 495 in one lane" in text(page)


def test_sessions_are_listed_with_who_and_how_many(http: httpx.Client, inspector: RunningInspector) -> None:
    for number in range(60):
        keep(inspector.store, record(number, session_id=f"session-{number}", user_id=f"user_{number}"))
    page = http.get("/sessions")
    assert names(page) == [f"user_{number}" for number in range(59, 9, -1)]
    [older] = re.findall(r'rel="next" href="(.*?)"', page.text)
    assert names(http.get(older)) == [f"user_{number}" for number in range(9, -1, -1)]


def test_goals_add_up(http: httpx.Client, inspector: RunningInspector) -> None:
    keep(inspector.store, kept_goal(0), kept_goal(10), kept_goal(20, -1))
    keep(inspector.store, *(kept_goal(n, amount, name="shop-revenue") for n, amount in enumerate((49.9, 12, -12))))
    page = text(http.get("/goals"))
    assert "Revenue $49.90" in page
    assert "user-signups 1 +2 −1" in page  # noqa: RUF001 - a minus
    assert "shop-revenue $49.90" in page
    keep(inspector.store, kept_goal(0, -12.5, name="refunds"))
    assert "refunds −$12.50 −1" in text(http.get("/goals"))  # noqa: RUF001 - a minus
    one = text(http.get("/goals/shop-revenue"))
    assert "Revenue $49.90 Increments 2 Decrements 1" in one


def test_health_counts_by_vendor_and_status(http: httpx.Client) -> None:
    send_one_of_each(http)
    http.post("/v1/goals/increment", json=goal(amount="1"), headers=SECRET)
    page = text(http.get("/health"))
    assert "SessionSight 2 requests Accepted 1 Refused 1" in page
    assert "200 1 400 1" in page


def test_faults_are_set_by_the_form_and_bite(http: httpx.Client, inspector: RunningInspector) -> None:
    applied = http.post("/health", data={"fail": " 503 ", "latency": "", "rate_limit": ""})
    assert (applied.status_code, applied.headers["location"]) == (303, "/health?saved")
    assert 'value="503"' in (page := http.get("/health?saved").text)
    assert "Applied" in page
    assert http.post("/v1/events", json=event(), headers=BEARER).status_code == 503
    http.post("/health", data={})
    assert http.post("/v1/events", json=event(), headers=BEARER).status_code == 200


def test_every_page_says_that_faults_are_on(http: httpx.Client) -> None:
    http.post("/health", data={"fail": "503:0.5", "rate_limit": "10/s"})
    for path in (*PAGES, "/records/0"):
        assert "Fault injection is on: fail 503:0.5, rate limit 10/s" in re.sub("<.*?>", "", http.get(path).text)
    assert "Turn all off" in http.get("/health").text
    http.post("/health")
    for path in PAGES:
        assert "Fault injection is on" not in http.get(path).text


def test_a_fault_that_is_none_is_said_beside_its_field(http: httpx.Client) -> None:
    page = http.post("/health", data={"fail": HOSTILE})
    assert page.status_code == 400
    assert 'aria-invalid="true"' in page.text
    assert "fail: must be written as 500:0.3" in page.text
    assert "<script>alert" not in page.text
    assert http.get("/api/faults").json() == {"fail": None, "latency": None, "rate_limit": None}


def test_clearing_removes_all_and_leads_back(http: httpx.Client) -> None:
    send_one_of_each(http)
    assert http.post("/clear").headers["location"] == "/"
    assert "Nothing has arrived yet" in http.get("/").text


@pytest.mark.parametrize("path", ["/clear", "/health"])
def test_another_sites_page_changes_nothing(http: httpx.Client, path: str) -> None:
    send_one_of_each(http)
    answer = http.post(path, data={"fail": "500"}, headers={"Origin": "https://example.com"})
    assert answer.status_code == 403
    assert "5 records" in text(http.get("/"))


@pytest.mark.parametrize(
    "path",
    [
        "/records/999999",
        f"/records/{10**30}",
        f"/records/{'9' * 5000}",
        "/records/x",
        "/sessions/none",
        "/goals/none",
        "/sessions/",
    ],
)
def test_what_is_not_here_is_said_to_be_missing(http: httpx.Client, path: str) -> None:
    page = http.get(path, follow_redirects=True)
    assert page.status_code == 404
    assert "To the stream" in page.text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_an_address_that_is_none_is_missing_for_programs_and_for_people(http: httpx.Client, method: str) -> None:
    plain = http.request(method, "/capture", headers={"Accept": "*/*"})
    assert (plain.status_code, plain.json()) == (404, {"error": "Not Found"})
    page = http.request(method, "/capture", headers={"Accept": "text/html,*/*"})
    assert page.status_code == 404
    assert "No such page" in page.text


def test_whatever_is_sent_is_shown_as_text(http: httpx.Client, inspector: RunningInspector) -> None:
    long = HOSTILE + "x" * 10_000
    everything: dict[str, Any] = {
        "name": long,
        "session_id": long,
        "window_id": long,
        "user_id": long,
        "visitor_id": long,
    }
    everything |= {"page_url": f"javascript:{long}", "properties": {long: {long: [long]}}, "raw": {long: long}}
    [shown] = keep(
        inspector.store, record(errors=[long], accepted=False, warnings=[long], **everything), body=long.encode()
    )
    keep(inspector.store, record(1, warnings=[long], **everything))
    keep(inspector.store, kept_goal(name=long))
    for path in ("/", f"/records/{shown.id}", "/sessions", "/goals"):
        page = http.get(path)
        assert page.status_code == 200
        assert "alert(1)" in page.text
        assert "<script>" not in page.text
        assert "<img" not in page.text
        assert 'href="javascript' not in page.text
        assert "49" not in names(page)
    for path in ("/sessions/", "/goals/"):
        page = http.get(path + "/".join(httpx.URL(path="/" + part).raw_path.decode()[1:] for part in long.split("/")))
        assert page.status_code == 200
        assert "<script>" not in page.text


@pytest.mark.parametrize(
    "event",
    [
        {"timestamp": "0001-01-01T00:00:00Z"},
        {"timestamp": "9999-12-31T23:59:59.999Z"},
        {"properties": {"amount": 1e308, "nothing": None, "": ""}},
        {"properties": {"long": 10**400}},
        {"event": "\x00\x1b[31m\u2028\u202e"},
        {"event": ""},
        {"event": "x", "properties": [1]},
        {"sessionId": "../../..", "windowId": "%2e%2e"},
    ],
)
def test_odd_records_have_their_pages(http: httpx.Client, inspector: RunningInspector, event: dict[str, Any]) -> None:
    http.post("/v1/capture", json=batch(capture(**{"sessionId": "s", **event})), headers=SIGNAL)
    http.post("/v1/capture", json=batch(capture(sessionId="s")), headers=SIGNAL)
    for path in (*PAGES, "/records/{0.id}", "/sessions/s"):
        page = http.get(path.format(inspector.store.since(0)[0]))
        assert page.status_code == 200, path


@pytest.mark.parametrize("body", [b'"\\ud800"', b"[" * 5000, b"1" * 5000, b'{"a": 1e999}', b"\x00\xff", b"", b"[NaN]"])
def test_odd_bodies_have_their_pages(http: httpx.Client, inspector: RunningInspector, body: bytes) -> None:
    [shown] = keep(inspector.store, record(), body=body, reply=body)
    assert http.get(f"/records/{shown.id}").status_code == 200
    assert http.get("/health").status_code == 200


def test_static_files_have_their_types(http: httpx.Client) -> None:
    for name, kind in (("inspector.css", "text/css"), ("inspector.js", "javascript"), ("icon.svg", "image/svg+xml")):
        answer = http.get(f"/static/{name}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]


def test_times_are_told_with_their_offset_from_utc(http: httpx.Client, inspector: RunningInspector) -> None:
    keep(inspector.store, record())
    assert re.search(r'<time datetime="2027-01-1[456]T\d\d:\d\d:00\.000[+-]\d\d:\d\d"', http.get("/").text), START


def test_flags_are_set_by_the_form_and_answered(http: httpx.Client, inspector: RunningInspector) -> None:
    asked = {"propertyId": "shop", "environment": "production", "context": {}}
    applied = http.post("/health?flags", data={"flags": "new-checkout = true\r\n\r\n cta-color=green = blue\r\n"})
    assert (applied.status_code, applied.headers["location"]) == (303, "/health?flags#flags")
    page = http.get("/health?flags").text
    assert "new-checkout = true\ncta-color = green = blue</textarea>" in page
    assert ">Set</span>" in page
    assert http.get("/api/flags").json() == {"new-checkout": True, "cta-color": "green = blue"}
    assert http.post("/v1/flags/evaluate", json=asked, headers=SECRET).json()["flags"]["new-checkout"]["value"] is True
    http.put("/api/flags", json={"text": f"</textarea>{HOSTILE}"})
    assert "<script>alert" not in http.get("/health").text
    http.post("/health?flags", data={"flags": ""})
    assert "Set: no flags" in http.get("/health?flags").text
    assert http.post("/v1/flags/evaluate", json=asked, headers=SECRET).json() == {"flags": {}}


@pytest.mark.parametrize("line", ["new-checkout", "= true", HOSTILE.replace("=", "")])
def test_a_line_that_is_not_a_flag_is_said_beside_the_field(http: httpx.Client, line: str) -> None:
    http.put("/api/flags", json={"kept": "x"})
    page = http.post("/health?flags", data={"flags": f"fine = true\n{line}"})
    assert page.status_code == 400
    assert "flags: a line must be written as new-checkout = true" in page.text
    assert "fine = true\n" in page.text
    assert "<script>alert" not in page.text
    assert http.get("/api/flags").json() == {"kept": "x"}
    assert http.put("/api/flags", json={}).json() == {}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a": 7}', b"\xff", b"[" * 20_000])
def test_wrong_flags_are_refused(http: httpx.Client, body: bytes) -> None:
    response = http.put("/api/flags", content=body)
    assert response.status_code == 400
    assert response.json()["error"]
