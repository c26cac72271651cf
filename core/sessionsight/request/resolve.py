"""Resolves a request's raw data to a tracking context.

Functions are pure and never raise: an id that its vendor would reject counts as missing. Cookies are read from the raw
header, because the parsers of frameworks remove quotes and do not percent-decode, and SessionSight's own parser does
the opposite: https://github.com/SessionSight/sdks (sdk-shared/src, goals/src).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from sessionsight.javascript import WHITESPACE, trim
from sessionsight.request.context import (
    NO_SIGNAL,
    OPTED_OUT,
    OPTED_OUT_NAME,
    Page,
    SessionSightIds,
    SignalIds,
    TrackingContext,
    valid_id,
    valid_session_id,
)
from sessionsight.request.hostnames import hostname
from sessionsight.request.raw import RequestData
from sessionsight.request.urls import UTM_FIELDS, sanitize_url, utm_parameters, utm_query

__all__ = ["ClientIP", "Resolution", "parse_cookies", "resolve"]

ClientIP = Literal["off", "truncated", "full"]

_SEPARATOR = re.compile(f";[{WHITESPACE}]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Only the end of a longer Cookie header is read. No server accepts that much by default.
_MAX_COOKIE_HEADER = 1024 * 1024
_MAX_PAGE_TEXT = 2048
# Results that are kept of strings that many requests have in common. A visitor sends the same cookies with each
# request, and those of few visitors are kept, because they are personal; a longer header is read each time.
_CACHED_VISITORS = 256
_CACHED_TEXTS = 256
_MAX_CACHED = 4096
# Some proxies append the port: 192.0.2.1:50123, [2001:db8::1]:50123.
_PORT = re.compile(r"^(?:\[(.*)\]|([0-9.]+))(?::[0-9]+)?$")


class Resolution(Struct, frozen=True):
    """A context, and the names of the cookies and headers whose ids are invalid."""

    context: TrackingContext
    invalid: tuple[str, ...] = ()


def parse_cookies(header: str) -> dict[str, str]:
    """Parse a Cookie header as SessionSight's own server SDK does.

    The last duplicate wins; names are case-sensitive; quotes remain part of the value; either all escapes are decoded
    or none.

    Example:
        >>> parse_cookies('ss_sid=old; ss_sid="a%20b"; broken; x=%zz%20')
        {'ss_sid': '"a b"', 'x': '%zz%20'}
    """
    if len(header) > _MAX_COOKIE_HEADER:
        # The last duplicate wins. The first pair may be truncated.
        header = header[-_MAX_COOKIE_HEADER:].partition(";")[2]
    cookies: dict[str, str] = {}
    for pair in _SEPARATOR.split(header):
        name, equals, value = pair.partition("=")
        if equals and (name := trim(name)):
            cookies[name] = _decode(trim(value))
    return cookies


def resolve(
    data: RequestData,
    *,
    anonymous_id_cookie: str | None = None,
    anonymous_id_header: str | None = None,
    client_ip: ClientIP = "off",
    trusted_proxies: int = 0,
) -> Resolution:
    """Return a request's ids and page facts. Never raises.

    A request with the cookie `ss_opted_out` comes from a service whose visitor has refused consent, see
    `sessionsight.propagation`. Its context has no ids.

    Example:
        >>> resolve(RequestData(headers={"cookie": "ss_sid=6f1d2c3b"})).context.session_id
        '6f1d2c3b'

    Args:
        data: The request.
        anonymous_id_cookie: The cookie with the site's own anonymous id.
        anonymous_id_header: The header with the site's own anonymous id. It overrides the cookie.
        client_ip: The part of the client's address to keep: `"off"`, `"truncated"` (to /24 or /48) or `"full"`.
        trusted_proxies: The number of proxies in front of the app that append to `X-Forwarded-For`.
    """
    headers = data.headers
    invalid: list[str] = []
    anonymous_id = None
    if anonymous_id_header:
        name = anonymous_id_header.lower()
        anonymous_id = _valid(name, (headers.get(name) or "").strip(), valid_id, invalid)
    cookie_name = anonymous_id_cookie if anonymous_id is None else None
    if data.cookies:
        ids = _cookie_ids(data.cookies, cookie_name)
    else:
        raw = headers.get("cookie") or ""
        read = _cookie_header_ids if len(raw) <= _MAX_CACHED else _cookie_header_ids.__wrapped__
        ids = read(raw, cookie_name)
    if ids is None:
        return Resolution(OPTED_OUT)
    sessionsight, cookie_id, invalid_cookies = ids
    invalid += invalid_cookies
    context = TrackingContext(
        sessionsight=sessionsight,
        signal=_signal_ids(headers, invalid),
        anonymous_id=anonymous_id or cookie_id,
        page=_page(data, client_ip, trusted_proxies),
    )
    return Resolution(context, tuple(invalid))


def _cookie_ids(
    cookies: Mapping[str, object], anonymous_id_cookie: str | None
) -> tuple[SessionSightIds, str | None, tuple[str, ...]] | None:
    """Return the ids in cookies, and the names of those whose ids are invalid; None if the visitor has refused."""
    refusal = cookies.get(OPTED_OUT_NAME)
    if isinstance(refusal, str) and refusal:  # an object with `get`, such as a test's mock, may return anything
        return None
    invalid: list[str] = []
    anonymous_id = None
    if anonymous_id_cookie:
        anonymous_id = _valid(anonymous_id_cookie, cookies.get(anonymous_id_cookie), valid_id, invalid)
    session_id = _valid("ss_sid", cookies.get("ss_sid"), valid_session_id, invalid)
    visitor_id = _valid("ss_vid", cookies.get("ss_vid"), valid_session_id, invalid)
    return SessionSightIds(session_id=session_id, visitor_id=visitor_id), anonymous_id, tuple(invalid)


@lru_cache(maxsize=_CACHED_VISITORS)
def _cookie_header_ids(
    header: str, anonymous_id_cookie: str | None
) -> tuple[SessionSightIds, str | None, tuple[str, ...]] | None:
    return _cookie_ids(_own_cookies(header, anonymous_id_cookie), anonymous_id_cookie)


def _own_cookies(header: str, anonymous_id_cookie: str | None) -> dict[str, str]:
    """Return the cookies that `resolve` reads, as `parse_cookies` does, which takes longer."""
    if len(header) > _MAX_COOKIE_HEADER:
        return parse_cookies(header)
    found = _own_cookie_pattern(anonymous_id_cookie).findall(f";{header}")
    return {name: _decode(trim(value)) for name, value in found}


@lru_cache(maxsize=_CACHED_TEXTS)
def _own_cookie_pattern(anonymous_id_cookie: str | None) -> re.Pattern[str]:
    names = ("ss_sid", "ss_vid", OPTED_OUT_NAME, *([anonymous_id_cookie] if anonymous_id_cookie else []))
    return re.compile(f";[{WHITESPACE}]*({'|'.join(map(re.escape, names))})[{WHITESPACE}]*=([^;]*)")


def _signal_ids(headers: Mapping[str, str], invalid: list[str]) -> SignalIds:
    get = headers.get
    raw = (get("x-signal-session-id", ""), get("x-signal-window-id", ""), get("x-signal-distinct-id", ""))
    if not any(raw):
        return NO_SIGNAL
    read = _signal_header_ids if sum(map(len, raw)) <= _MAX_CACHED else _signal_header_ids.__wrapped__
    ids, names = read(*raw)
    invalid += names
    return ids


@lru_cache(maxsize=_CACHED_VISITORS)
def _signal_header_ids(session: str, window: str, distinct: str) -> tuple[SignalIds, tuple[str, ...]]:
    """Return the ids in Signal's headers, and the names of those headers whose ids are invalid."""
    invalid: list[str] = []
    session_id = _valid("x-signal-session-id", session.strip(), valid_id, invalid)
    window_id = _valid("x-signal-window-id", window.strip(), valid_id, invalid)
    distinct_id = _valid("x-signal-distinct-id", distinct.strip(), valid_id, invalid)
    return SignalIds(session_id=session_id, window_id=window_id, distinct_id=distinct_id), tuple(invalid)


def _valid(name: str, raw: object, is_valid: Callable[[str], bool], invalid: list[str]) -> str | None:
    if not isinstance(raw, str) or not raw:
        return None
    if is_valid(raw):
        return raw
    invalid.append(name)
    return None


def _decode(value: str) -> str:
    if "%" not in value or _BAD_ESCAPE.search(value):
        return value
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeError:
        return value


def _page(data: RequestData, client_ip: ClientIP, trusted_proxies: int) -> Page:
    get = data.headers.get
    path, url = _text(data.path), None
    origin, hostname_ = _origin(data.scheme, get("host", "")[:_MAX_PAGE_TEXT])
    utm = utm_query(data.query)
    if origin and data.path:
        url = _text(f"{origin}{data.path}?{utm}" if utm else f"{origin}{data.path}")
    referrer, referrer_domain = _referrer(get("referer", "")[:_MAX_PAGE_TEXT])
    read = _utm_values if len(utm) <= _MAX_CACHED else _utm_values.__wrapped__
    utm_source, utm_medium, utm_campaign, utm_term, utm_content = read(utm)
    return Page(
        url=url,
        path=path,
        hostname=hostname_,
        referrer=referrer,
        referrer_domain=referrer_domain,
        utm_source=utm_source,
        utm_medium=utm_medium,
        utm_campaign=utm_campaign,
        utm_term=utm_term,
        utm_content=utm_content,
        user_agent=_cached_text(get("user-agent", "")[:_MAX_PAGE_TEXT]),
        client_ip=None if client_ip == "off" else _client_ip(data, client_ip, trusted_proxies),
    )


@lru_cache(maxsize=_CACHED_TEXTS)
def _origin(scheme: str, header: str) -> tuple[str | None, str | None]:
    """Return the scheme with the host and its port, and the host name."""
    host = _text(header)
    origin = f"{scheme}://{host}"
    return (origin, hostname(origin) or None) if host else (None, None)


@lru_cache(maxsize=_CACHED_TEXTS)
def _utm_values(query: str) -> tuple[str | None, ...]:
    """Return the values of `UTM_FIELDS`."""
    found = utm_parameters(query)
    return tuple(_text(found.get(name)) for name in UTM_FIELDS)


@lru_cache(maxsize=_CACHED_TEXTS)
def _referrer(header: str) -> tuple[str | None, str | None]:
    """Return the referrer and its domain."""
    referrer = _text(header)
    # The domain of the original header, because a browser rejects some of the characters that `_text` removes.
    return (sanitize_url(referrer), _text(hostname(header))) if referrer else (None, None)


def _text(value: str | None) -> str | None:
    """Return text as a page fact: of bounded length and without control characters."""
    if not value:
        return None
    value = value[:_MAX_PAGE_TEXT].strip()
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable())
    return value or None


_cached_text = lru_cache(maxsize=_CACHED_TEXTS)(_text)


def _client_ip(data: RequestData, mode: ClientIP, trusted_proxies: int) -> str | None:
    # Each trusted proxy appends the address of its client; entries further left are not trustworthy. The last hop is
    # the peer, which has no address on a Unix socket.
    forwarded = (data.headers.get("x-forwarded-for") or "").split(",")
    hops = [*filter(str.strip, forwarded), data.remote_addr or ""]
    # With fewer hops than proxies, the request has bypassed them, so only the peer's address is certain.
    hop = hops[-1 - trusted_proxies] if trusted_proxies < len(hops) else hops[-1]
    try:
        address = ipaddress.ip_address(_PORT.sub(r"\1\2", hop.strip()))
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if mode == "full":
        return str(address)
    unscoped = str(address).partition("%")[0]
    return str(ipaddress.ip_network(f"{unscoped}/{24 if address.version == 4 else 48}", strict=False).network_address)
