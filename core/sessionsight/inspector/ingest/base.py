"""Base of the vendors' ingest APIs: a request in, records and a reply out, without I/O."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sessionsight.inspector.model import InspectedRecord, Source, Vendor

__all__ = [
    "MAX_BODY",
    "MAX_KEPT",
    "SHOWN_OF_A_SECRET",
    "Body",
    "Endpoint",
    "Handler",
    "Ingest",
    "IngestResult",
    "Reply",
    "Request",
    "RequestRejected",
    "all_or_nothing",
    "always",
    "answer",
    "check_key",
    "decode",
    "masked",
    "page_of",
    "reject",
    "side_of",
    "too_large",
    "unzip",
]

MAX_BODY = 10 * 1024 * 1024
"""Bytes of an unzipped body. No vendor documents a limit of its own."""
MAX_KEPT = 1024 * 1024
"""Bytes of a body that are kept."""
_MAX_DEPTH = 100
SHOWN_OF_A_SECRET = 8


def _no_records(_user_id: str) -> Sequence[InspectedRecord]:
    return ()


class Request(Struct, frozen=True, kw_only=True):
    """Request to a vendor's endpoint."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""
    """Unzipped."""
    received_at: float
    keys: frozenset[str] = frozenset()
    """Valid keys of the vendor. If empty, any key that is not blank is valid."""
    flags: Mapping[str, bool | str] = {}
    """Feature flags of all visitors."""
    known: Callable[[str], Sequence[InspectedRecord]] = _no_records
    """Returns the accepted records of a user, oldest first."""


class Reply(Struct, frozen=True):
    """Response of a vendor."""

    status: int
    json: Any = None
    headers: Mapping[str, str] = {}

    def with_headers(self, headers: Mapping[str, str]) -> Reply:
        """Return a copy with these headers."""
        return replace(self, headers=headers)


class IngestResult(Struct, frozen=True):
    """Result of a parsed request."""

    reply: Reply
    records: Sequence[InspectedRecord] = ()
    key: str | None = None
    """Key of the request, which must not be stored."""


class RequestRejected(Exception):
    """The whole request is rejected, not only a record of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


Body = dict[str, Any]
Handler = Callable[[Request, Body], IngestResult]


def always(json: Any) -> Handler:
    """Return a handler with a fixed response."""
    return lambda _request, _body: IngestResult(Reply(200, json))


class Endpoint(Struct, frozen=True):
    """Method and path of an API."""

    method: str
    path: str
    """The last segment may be `{id}`, which matches any text."""
    key: Sequence[str]
    """Places of the key in order of precedence: `authorization`, another header, or a `body.field`."""
    handle: Handler
    public: bool = False
    """True if browsers call it with the public key."""
    keyless: bool = False
    """True if it accepts requests without a key: a beacon cannot send a header."""

    def matches(self, path: str) -> bool:
        """Return whether a request's path matches."""
        if not self.path.endswith("/{id}"):
            return path == self.path
        folder, _, last = path.rpartition("/")
        return bool(last) and folder == self.path.removesuffix("/{id}")


class Ingest(Protocol):
    """One vendor's protocol."""

    @property
    def vendor(self) -> Vendor:
        """Vendor of the protocol."""
        ...

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Endpoints of the vendor."""
        ...

    def authenticate(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """Check the key.

        Raises:
            RequestRejected: 401 if it is missing or wrong.
        """
        ...

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """Return an error response in the vendor's format."""
        ...


def answer(ingest: Ingest, endpoint: Endpoint, request: Request) -> IngestResult:
    """Process a request like the vendor does: check its key, then its body, then each record.

    Records of a request with a wrong key are parsed if possible, and rejected.
    """
    unreadable = None
    body: Body = {}
    try:
        body = decode(request) if request.method == "POST" else {}
    except RequestRejected as refusal:
        unreadable = refusal
    key = next((key for place in endpoint.key if (key := _key_in(place, request, body))), None)
    try:
        ingest.authenticate(key, request, endpoint)
        refused = unreadable
    except RequestRejected as refusal:
        in_body = any(place.startswith("body.") for place in endpoint.key)
        refused = unreadable if unreadable is not None and in_body else refusal
    secret = key if isinstance(key, str) and key else None
    if refused is None:
        return replace(endpoint.handle(request, body), key=secret)
    records = () if unreadable else endpoint.handle(request, body).records
    return IngestResult(
        reply=ingest.error(refused.status, refused.message, refused.code),
        records=[reject(record, refused.message) for record in records],
        key=secret,
    )


# --- Reading a request ----------------------------------------------------------------------------


def unzip(body: bytes, encoding: str) -> bytes:
    """Decode the request's `Content-Encoding`.

    Raises:
        RequestRejected: 400 for invalid gzip data, 413 for too much data, 415 for another encoding.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise RequestRejected(415, "unsupported_encoding", f"content-encoding: must be gzip, not {encoding!r}")
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise RequestRejected(400, "invalid_body", "body: is not gzip, as content-encoding says") from None
    if len(plain) > MAX_BODY:
        raise too_large()
    if not inflate.eof:
        raise RequestRejected(400, "invalid_body", "body: the gzip data ends too early")
    return plain


def too_large() -> RequestRejected:
    """Return the error for a body over the limit."""
    return RequestRejected(413, "too_large", f"body: must be at most {MAX_BODY} bytes")


def decode(request: Request) -> dict[str, Any]:
    """Return the body's JSON object. The content type is ignored, because beacons use text/plain.

    Raises:
        RequestRejected: 400 if the body is not a JSON object.
    """
    try:
        value = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RequestRejected(400, "invalid_json", f"body: must be JSON ({error})") from None
    if not isinstance(value, dict):
        raise RequestRejected(400, "invalid_body", f"body: must be an object, not {type(value).__name__}")
    if request.body.count(b"{") + request.body.count(b"[") > _MAX_DEPTH and _depth(value) > _MAX_DEPTH:
        raise RequestRejected(400, "invalid_body", f"body: is nested more than {_MAX_DEPTH} deep")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        members = (item.values() if isinstance(item, dict) else item for item in level)
        level = [member for item in members for member in item if isinstance(member, dict | list)]
    return depth


def check_key(key: object, taken: frozenset[str], *, where: str, missing: str, wrong: str) -> str:
    """Return the key if it is valid.

    Raises:
        RequestRejected: 401 with the vendor's code for a missing or a wrong key.
    """
    if key is None or key == "" or (isinstance(key, str) and key.isspace()):
        raise RequestRejected(401, missing, f"{where}: there is no key")
    if not isinstance(key, str):
        raise RequestRejected(401, wrong, f"{where}: the key must be a string")
    if taken and key not in taken:
        raise RequestRejected(401, wrong, f"{where}: {masked(key)} is not one of the keys of this inspector")
    return key


def _key_in(place: str, request: Request, body: Body) -> object:
    if place.startswith("body."):
        return body.get(place.removeprefix("body."))
    value = request.headers.get(place, "").strip()
    if place == "authorization":
        scheme, _, key = value.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else None
    return value


def masked(secret: str) -> str:
    """Return the part of a secret that may be shown.

    Example:
        >>> masked("Bearer sk_live_123")
        'Bearer sk_live_…'
    """
    scheme, space, rest = secret.partition(" ")
    if not space or scheme.lower() not in {"basic", "bearer"}:
        scheme, space, rest = "", "", secret
    return f"{scheme}{space}{rest[:SHOWN_OF_A_SECRET]}…"


# --- Writing records ------------------------------------------------------------------------------


def side_of(request: Request) -> Source:
    """Return the sender: browsers send an origin, or a user agent that starts with Mozilla."""
    browser = (
        request.path.startswith(("/v1/sdk/", "/v1/ingest"))
        or "origin" in request.headers
        or request.headers.get("user-agent", "").startswith("Mozilla/")
    )
    return "browser" if browser else "server"


def page_of(request: Request, *places: Mapping[str, Any]) -> str | None:
    """Return the page named in one of these mappings, otherwise the page of the browser's script."""
    for place in places:
        for name in ("$current_url", "url", "page_url", "path", "$pathname"):
            if isinstance(page := place.get(name), str) and page:
                return page
    return request.headers.get("referer") if side_of(request) == "browser" else None


def reject(record: InspectedRecord, rule: str) -> InspectedRecord:
    """Return the record as rejected because of an error elsewhere in its request."""
    return replace(record, accepted=False, errors=[rule])


def all_or_nothing(
    records: Sequence[InspectedRecord], name: str = "events"
) -> tuple[Sequence[InspectedRecord], str | None]:
    """Reject all records of a batch if one of them is rejected.

    Returns:
        The records, and the first error.
    """
    culprit = next((n for n, record in enumerate(records) if not record.accepted), None)
    if culprit is None:
        return records, None
    rule = f"{name}[{culprit}] was rejected, and the whole batch with it"
    judged = [reject(record, rule) if record.accepted else record for record in records]
    return judged, f"{name}[{culprit}].{records[culprit].errors[0]}"
