from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.request import resolve as resolve_module
from sessionsight.request.context import OPTED_OUT, valid_id, valid_session_id
from sessionsight.request.raw import RequestData, from_any
from sessionsight.request.resolve import ClientIP, Resolution, parse_cookies, resolve


def request(cookie: str = "", **data: Any) -> RequestData:
    headers = {name.replace("_", "-"): value for name, value in data.pop("headers", {}).items()}
    return RequestData(headers={"cookie": cookie, **headers} if cookie else headers, **data)


# --- cookies: the rules of SessionSight's own resolver ----------------------------------------------


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2;   c=3;\tb=4", {"a": "1", "b": "4", "c": "3"}),
        ("a=1, b=2", {"a": "1, b=2"}),
        ("a=b=c", {"a": "b=c"}),
        (" a = 1 ", {"a": "1"}),
        ("a=\xa01\ufeff", {"a": "1"}),
        ("a; =1; b=2", {"b": "2"}),
        ("A=1; a=2", {"A": "1", "a": "2"}),
        ("a=1; a=", {"a": ""}),
        ('a="1"', {"a": '"1"'}),
        ("a=%41%2D", {"a": "A-"}),
        ("a=%41%zz", {"a": "%41%zz"}),
        ("a=%41%", {"a": "%41%"}),
        ("a=%41%FF", {"a": "%41%FF"}),
        ("a=%ED%A0%80", {"a": "%ED%A0%80"}),
        ("a=%C3%A4+%20", {"a": "ä+ "}),
        ("a=%2541", {"a": "%41"}),
        ("a=ä%20", {"a": "ä "}),
        ("a=\ud800%20", {"a": "\ud800%20"}),
        ("", {}),
    ],
)
def test_cookies_are_parsed_as_sessionsight_does(header: str, cookies: dict[str, str]) -> None:
    assert parse_cookies(header) == cookies


def test_a_session_after_many_other_cookies_is_found() -> None:
    others = "; ".join(f"other{number}={'x' * 1000}" for number in range(200))
    assert parse_cookies(f"{others}; ss_sid=session-1; ss_vid=visitor-1")["ss_sid"] == "session-1"
    assert resolve(request(f"{others}; ss_sid=session-1")).context.sessionsight.session_id == "session-1"
    assert resolve(request(f"ss_sid=session-1; {others}")).context.sessionsight.session_id == "session-1"


def test_only_the_end_of_a_huge_cookie_header_is_read() -> None:
    header = f"ss_sid=first; x{'ss_sid=cut' * 200_000}; ss_sid=last"
    assert parse_cookies(header) == {"ss_sid": "last"}
    assert resolve(request(header)).context.session_id == "last"


def test_a_blank_name_is_ignored() -> None:
    assert parse_cookies("\xa0=1; a=2") == {"a": "2"}


@pytest.mark.parametrize(
    ("referrer", "domain"),
    [
        ("HTTP:\\\\Shop.Example\\x", "shop.example"),
        ("https://0x7f.1/", "127.0.0.1"),
        ("https://sh\xadop.example", "shop.example"),
        ("https://a\u200cb.example", None),
        ("https://" + "a" * 3000, "a" * 2040),
        ("about:client", None),
    ],
)
def test_the_domain_of_a_referrer_is_that_of_a_browser(referrer: str, domain: str | None) -> None:
    assert resolve(request(headers={"referer": referrer})).context.page.referrer_domain == domain


@given(st.text())
def test_parse_cookies_never_raises(header: str) -> None:
    for name, value in parse_cookies(header).items():
        assert ";" not in name
        assert isinstance(value, str)


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.from_regex(r"[A-Za-z0-9-]{0,20}", fullmatch=True))
)
def test_plain_cookies_are_unchanged(cookies: dict[str, str]) -> None:
    assert parse_cookies("; ".join(f"{name}={value}" for name, value in cookies.items())) == cookies


@given(
    st.lists(
        st.sampled_from(["ss_sid", "ss_vid", "ss_opted_out", "a.b", "axb", "=", ";", " ", "\xa0", "%41", "%zz", "x"])
    ),
    st.sampled_from([None, "a.b", "x"]),
)
def test_only_the_cookies_that_are_needed_are_read_and_in_the_same_way(parts: list[str], cookie: str | None) -> None:
    header, needed = "".join(parts), {"ss_sid", "ss_vid", "ss_opted_out", cookie}

    assert resolve_module._own_cookies(header, cookie) == {
        name: value for name, value in parse_cookies(header).items() if name in needed
    }


# --- ids ---------------------------------------------------------------------------------------------


def test_each_id_is_stored_under_its_vendor() -> None:
    signal = {"x_signal_session_id": " s1 ", "x_signal_window_id": "w1", "x_signal_distinct_id": "d1"}
    context = resolve(request("ss_sid=session-1; ss_vid=visitor-1", headers=signal)).context
    assert (context.sessionsight.session_id, context.sessionsight.visitor_id) == ("session-1", "visitor-1")
    assert (context.signal.session_id, context.signal.window_id, context.signal.distinct_id) == ("s1", "w1", "d1")
    assert context.user_id is None
    assert context.anonymous_id is None


@pytest.mark.parametrize("value", ["a" * 129, "a_b", '"a"', "%20", "a%20b", "ä", "a%0Ab", "a%00"])
def test_a_session_id_that_sessionsight_rejects_counts_as_missing(value: str) -> None:
    assert resolve(request(f"ss_sid={value}; ss_vid={value}")) == Resolution(
        resolve(request()).context, ("ss_sid", "ss_vid")
    )


@pytest.mark.parametrize("value", ["a" * 128, "6f1d2c3b-0000", "A-1"])
def test_a_session_id_that_sessionsight_accepts_is_kept(value: str) -> None:
    assert resolve(request(f"ss_sid={value}")).context.sessionsight.session_id == value


@pytest.mark.parametrize("cookie", ["", "ss_sid=", "ss_sid=%", "SS_SID=x", "ss_sid=a; ss_sid="])
def test_a_missing_and_an_invalid_session_id_are_none(cookie: str) -> None:
    assert resolve(request(cookie)).context.sessionsight.session_id is None


@pytest.mark.parametrize("value", ["a" * 257, "a\nb", "a\x00b", "a\x7fb", "a\x85b"])
def test_an_invalid_signal_id_counts_as_missing(value: str) -> None:
    resolution = resolve(request(headers={"x_signal_distinct_id": value}))
    assert resolution.context.signal.distinct_id is None
    assert resolution.invalid == ("x-signal-distinct-id",)


def test_the_sites_anonymous_id_comes_from_its_header_then_its_cookie() -> None:
    data = request("my_id=from%20cookie", headers={"x_my_id": "from header"})
    assert resolve(data, anonymous_id_cookie="my_id").context.anonymous_id == "from cookie"
    both = resolve(data, anonymous_id_cookie="my_id", anonymous_id_header="X-My-Id")
    assert both.context.anonymous_id == "from header"
    assert resolve(data).context.anonymous_id is None


def test_an_invalid_anonymous_header_does_not_override_the_cookie() -> None:
    data = request("my_id=c1", headers={"x_my_id": "a\nb"})
    resolution = resolve(data, anonymous_id_cookie="my_id", anonymous_id_header="x-my-id")
    assert resolution.context.anonymous_id == "c1"
    assert resolution.invalid == ("x-my-id",)


def test_decoded_cookies_override_the_header_and_other_types_are_ignored() -> None:
    data = request("ss_sid=header; ss_vid=header", cookies={"ss_sid": "decoded", "ss_vid": 5})
    context = resolve(data).context
    assert (context.sessionsight.session_id, context.sessionsight.visitor_id) == ("decoded", None)


# --- page --------------------------------------------------------------------------------------------


def test_page_facts_are_sanitized() -> None:
    page = resolve(
        RequestData(
            headers={
                "host": "Shop.Example:8443",
                "referer": "https://user:pass@blog.example/post?token=1&utm_source=r",
                "user-agent": "browser",
            },
            scheme="https",
            path="/orders/1",
            query="token=1&utm_source=news&utm_campaign=a+b",
        )
    ).context.page
    assert page.url == "https://Shop.Example:8443/orders/1?utm_source=news&utm_campaign=a+b"
    assert (page.path, page.hostname, page.user_agent) == ("/orders/1", "shop.example", "browser")
    assert (page.referrer, page.referrer_domain) == ("https://blog.example/post?utm_source=r", "blog.example")
    assert (page.utm_source, page.utm_campaign, page.utm_medium) == ("news", "a b", None)
    assert (page.route, page.client_ip) == (None, None)


def test_page_facts_are_bounded_and_without_control_characters() -> None:
    page = resolve(
        RequestData(
            headers={
                "host": "a\nb.example",
                "referer": "https://x/\r\n" + "y" * 5000,
                "user-agent": "\x1b[31m" + "z" * 5000,
            },
            path="/" + "p" * 5000,
            query="utm_source=%0d%0a&utm_term=" + "t" * 5000,
        )
    ).context.page
    for fact in (getattr(page, name) for name in page.__struct_fields__):
        assert fact is None or (fact.isprintable() and 0 < len(fact) <= 2048)
    assert page.utm_source is None


# --- the client's address ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "remote", "address"),
    [
        ("off", "192.0.2.77", None),
        ("full", "192.0.2.77", "192.0.2.77"),
        ("truncated", "192.0.2.77", "192.0.2.0"),
        ("full", "2001:db8:1:2::3", "2001:db8:1:2::3"),
        ("truncated", "2001:db8:1:2::3", "2001:db8:1::"),
        ("full", "::ffff:192.0.2.77", "192.0.2.77"),
        ("truncated", "::ffff:192.0.2.77", "192.0.2.0"),
        ("truncated", "fe80::1%eth0", "fe80::"),
        ("full", "/run/app.sock", None),
        ("full", "", None),
        ("full", None, None),
    ],
)
def test_the_address_is_kept_by_the_setting(mode: ClientIP, remote: str | None, address: str | None) -> None:
    assert resolve(RequestData(remote_addr=remote), client_ip=mode).context.page.client_ip == address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "remote", "address"),
    [
        (0, "198.51.100.1", "192.0.2.1", "192.0.2.1"),
        (1, "198.51.100.1", "192.0.2.1", "198.51.100.1"),
        (1, "203.0.113.66, 198.51.100.1", "192.0.2.1", "198.51.100.1"),
        (2, "203.0.113.66, 198.51.100.1, 192.0.2.2", "192.0.2.1", "198.51.100.1"),
        (2, "203.0.113.66,198.51.100.1 ,192.0.2.2", "192.0.2.1", "198.51.100.1"),
        # Fewer hops than proxies: the request has bypassed them, and only the peer is certain.
        (2, "203.0.113.66", "192.0.2.1", "192.0.2.1"),
        (1, "", "192.0.2.1", "192.0.2.1"),
        # A proxy on a Unix socket has no address, but counts as a hop.
        (1, "203.0.113.66, 198.51.100.1", None, "198.51.100.1"),
        (0, "203.0.113.66", None, None),
        (1, "198.51.100.1:4711", "192.0.2.1", "198.51.100.1"),
        (1, "[2001:db8::1]:4711", "192.0.2.1", "2001:db8::1"),
        (1, "[2001:db8::1]", "192.0.2.1", "2001:db8::1"),
        (1, "unknown", "192.0.2.1", None),
        (1, "<script>", "192.0.2.1", None),
    ],
)
def test_a_client_cannot_forge_its_address(
    proxies: int, forwarded: str, remote: str | None, address: str | None
) -> None:
    data = RequestData(headers={"x-forwarded-for": forwarded}, remote_addr=remote)
    assert resolve(data, client_ip="full", trusted_proxies=proxies).context.page.client_ip == address


# --- whatever a browser sends ------------------------------------------------------------------------

texts = st.text() | st.text().map(lambda text: f"ss_sid={text}; ss_vid={text}; my_id={text}")


@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["cookie", "host", "referer", "x-forwarded-for", "x-signal-session-id", "x-my-id", "user-agent"]
        ),
        texts,
    ),
    path=st.none() | st.text(),
    query=st.text() | st.text().map(lambda text: f"utm_source={text}"),
    remote=st.none() | st.text() | st.ip_addresses().map(str),
    mode=st.sampled_from(["off", "truncated", "full"]),
    proxies=st.integers(0, 3),
)
def test_resolve_never_raises_and_keeps_valid_ids_only(  # noqa: PLR0917  # Hypothesis names them
    headers: dict[str, str], path: str | None, query: str, remote: str | None, mode: ClientIP, proxies: int
) -> None:
    context = resolve(
        RequestData(headers=headers, path=path, query=query, remote_addr=remote),
        anonymous_id_cookie="my_id",
        anonymous_id_header="x-my-id",
        client_ip=mode,
        trusted_proxies=proxies,
    ).context
    for session_id in (context.sessionsight.session_id, context.sessionsight.visitor_id):
        assert session_id is None or valid_session_id(session_id)
    for other in (context.signal.session_id, context.anonymous_id):
        assert other is None or valid_id(other)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.lists(st.ip_addresses().map(str)))
def test_hops_before_the_trusted_proxies_are_ignored(client: Any, proxy: Any, spoofed: list[str]) -> None:
    data = RequestData(headers={"x-forwarded-for": ", ".join([*spoofed, str(client)])}, remote_addr=str(proxy))
    assert resolve(data, client_ip="full", trusted_proxies=1).context.page.client_ip == str(client)


# --- refusals that another service passes on -----------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "0", "true"])
def test_a_request_with_a_passed_on_refusal_has_no_ids(value: str) -> None:
    data = request(f"ss_sid=session-1; ss_opted_out={value}", headers={"x_signal_session_id": "signal-1"}, path="/")
    assert resolve(data) == Resolution(OPTED_OUT)


def test_an_empty_refusal_is_none() -> None:
    assert resolve(request("ss_sid=session-1; ss_opted_out=")).context.session_id == "session-1"


@pytest.mark.parametrize(
    "given",
    [
        {"cookies": {"ss_opted_out": "1"}},
        {"ss_opted_out": "1"},
        SimpleNamespace(cookies=SimpleNamespace(get={"ss_opted_out": "1"}.get), headers={}),
    ],
)
def test_a_refusal_among_decoded_cookies_counts(given: object) -> None:
    assert resolve(from_any(given)).context.opted_out


def test_a_mock_of_a_request_has_not_refused() -> None:
    assert not resolve(from_any(MagicMock())).context.opted_out


# --- strings that requests have in common ---------------------------------------------------------


def test_the_same_cookies_are_read_under_different_settings() -> None:
    data = request("ss_sid=session-1; a=1; b=2")
    for _ in range(2):
        assert resolve(data).context.anonymous_id is None
        assert resolve(data, anonymous_id_cookie="a").context.anonymous_id == "1"
        assert resolve(data, anonymous_id_cookie="b").context.anonymous_id == "2"


def test_an_invalid_cookie_is_reported_for_each_request() -> None:
    data = request("ss_sid=not_valid", headers={"x_signal_session_id": "x" * 300})
    assert [resolve(data).invalid for _ in range(2)] == [("ss_sid", "x-signal-session-id")] * 2


def test_the_same_host_is_read_under_different_schemes() -> None:
    def page(scheme: str, host: str) -> tuple[str | None, str | None]:
        found = resolve(request(headers={"host": host}, scheme=scheme, path="/")).context.page
        return found.url, found.hostname

    for _ in range(2):
        assert page("https", "shop.example:1") == ("https://shop.example:1/", "shop.example")
        assert page("http", "shop.example:1") == ("http://shop.example:1/", "shop.example")
        assert page("app", "Shop.example:1") == ("app://Shop.example:1/", "Shop.example")


def test_a_signal_id_stays_with_its_header() -> None:
    for _ in range(2):
        for name in ("session", "window", "distinct"):
            ids = resolve(request(headers={f"x_signal_{name}_id": "one"})).context.signal
            assert {"session": ids.session_id, "window": ids.window_id, "distinct": ids.distinct_id} == {
                "session": None,
                "window": None,
                "distinct": None,
                name: "one",
            }


def test_long_headers_are_not_kept() -> None:
    cookies = resolve_module._cookie_header_ids, request(f"ss_sid=session-1; other={'x' * 5000}")
    signal = resolve_module._signal_header_ids, request(headers={"x_signal_session_id": f"one{' ' * 5000}"})
    for read, data in (cookies, signal):
        read.cache_clear()
        assert resolve(data).context.session_id in {"session-1", "one"}
        assert resolve(request("ss_sid=session-2", headers={"x_signal_window_id": "two"})).invalid == ()
        assert read.cache_info().currsize == 1


def test_long_campaigns_are_not_kept() -> None:
    resolve_module._utm_values.cache_clear()

    page = resolve(request(path="/", query=f"utm_source=news&utm_term={'x' * 5000}")).context.page

    assert (page.utm_source, page.utm_term) == ("news", "x" * 2048)
    assert resolve_module._utm_values.cache_info().currsize == 0


def test_the_strings_of_few_visitors_are_kept() -> None:
    for number in range(1000):
        headers = {"x_signal_session_id": f"{number}", "host": f"h{number}"}
        data = request(f"ss_sid=session-{number}", query=f"utm_source={number}", headers=headers)
        assert resolve(data).context.sessionsight.session_id == f"session-{number}"
    for read in ("_cookie_header_ids", "_signal_header_ids", "_origin", "_utm_values"):
        assert getattr(resolve_module, read).cache_info().currsize <= 256
