"""What every vendor's ingest has in common: a request in, records and a reply out. Nothing here does I/O."""

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
    "always",
    "answer",
    "as_one",
    "check_key",
    "decode",
    "masked",
    "page_of",
    "refuse",
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


def _nothing(_user_id: str) -> Sequence[InspectedRecord]:
    return ()


class Request(Struct, frozen=True, kw_only=True):
    """What a vendor's endpoint is given."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""
    """Unzipped."""
    received_at: float
    keys: frozenset[str] = frozenset()
    """The keys that this vendor takes; any that is not blank, when there are none."""
    known: Callable[[str], Sequence[InspectedRecord]] = _nothing
    """What this vendor has taken of a user, oldest first."""


class Reply(Struct, frozen=True):
    """What a vendor answers."""

    status: int
    json: Any = None
    headers: Mapping[str, str] = {}

    def with_headers(self, headers: Mapping[str, str]) -> Reply:
        """The same, with headers."""
        return replace(self, headers=headers)


class IngestResult(Struct, frozen=True):
    """A request as it was understood."""

    reply: Reply
    records: Sequence[InspectedRecord] = ()
    key: str | None = None
    """The key that it bore, which is not to be kept."""


class RequestRejected(Exception):
    """The whole request is refused, for more than a record's sake."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


Body = dict[str, Any]
Handler = Callable[[Request, Body], IngestResult]


def always(json: Any) -> Handler:
    """A handler that has one answer."""
    return lambda _request, _body: IngestResult(Reply(200, json))


class Endpoint(Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    """Its last segment may be `{id}`, which stands for any."""
    key: Sequence[str]
    """Where the key may stand: `authorization`, another header, or a `body.field`; the first that is there counts."""
    handle: Handler
    public: bool = False
    """Whether browsers call it, with the public key."""
    keyless: bool = False
    """True when the endpoint accepts calls without a key: a beacon cannot send a header."""

    def fits(self, path: str) -> bool:
        """Whether a request's path is this one."""
        if not self.path.endswith("/{id}"):
            return path == self.path
        folder, _, last = path.rpartition("/")
        return bool(last) and folder == self.path.removesuffix("/{id}")


class Ingest(Protocol):
    """One vendor's protocol."""

    @property
    def vendor(self) -> Vendor:
        """Whose it is."""
        ...

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """All that may be called."""
        ...

    def admit(self, key: object, request: Request, endpoint: Endpoint) -> None:
        """Look at the key.

        Raises:
            RequestRejected: 401, when it is missing or wrong.
        """
        ...

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """A reply that says no, in the vendor's form."""
        ...


def answer(ingest: Ingest, endpoint: Endpoint, request: Request) -> IngestResult:
    """What a vendor would do with a request: look at its key, then at its body, then at each record.

    Records of a request with a wrong key are told as far as the body lets us, and refused for it.
    """
    unreadable = None
    body: Body = {}
    try:
        body = decode(request) if request.method == "POST" else {}
    except RequestRejected as refusal:
        unreadable = refusal
    key = next((key for place in endpoint.key if (key := _key_in(place, request, body))), None)
    try:
        ingest.admit(key, request, endpoint)
        refused = unreadable
    except RequestRejected as refusal:
        refused = refusal
    secret = key if isinstance(key, str) and key else None
    if refused is None:
        return replace(endpoint.handle(request, body), key=secret)
    records = () if unreadable else endpoint.handle(request, body).records
    return IngestResult(
        reply=ingest.error(refused.status, refused.message, refused.code),
        records=[refuse(record, refused.message) for record in records],
        key=secret,
    )


# --- Reading a request ----------------------------------------------------------------------------


def unzip(body: bytes, encoding: str) -> bytes:
    """Undo the request's `Content-Encoding`.

    Raises:
        RequestRejected: 400 for what is not gzip, 413 for too much, 415 for another encoding.
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
    """For a body over the limit."""
    return RequestRejected(413, "too_large", f"body: must be at most {MAX_BODY} bytes")


def decode(request: Request) -> dict[str, Any]:
    """The body's JSON object, whatever its content type: beacons come as text/plain.

    Raises:
        RequestRejected: 400 for anything else.
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
    """The key, when it is taken.

    Raises:
        RequestRejected: 401, with the vendor's code for a missing or a wrong key.
    """
    if key is None or key == "" or (isinstance(key, str) and key.isspace()):
        raise RequestRejected(401, missing, f"{where}: there is no key")
    if not isinstance(key, str):
        raise RequestRejected(401, wrong, f"{where}: the key must be a string")
    if taken and key not in taken:
        raise RequestRejected(401, wrong, f"{where}: {masked(key)} is none of the keys that this inspector was given")
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
    """As much of a secret as may be shown.

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
    """Who sent it: browsers say their origin, or call themselves Mozilla."""
    browser = (
        request.path.startswith(("/v1/sdk/", "/v1/ingest"))
        or "origin" in request.headers
        or request.headers.get("user-agent", "").startswith("Mozilla/")
    )
    return "browser" if browser else "server"


def page_of(request: Request, *places: Mapping[str, Any]) -> str | None:
    """The page that a record names in one of these mappings, else the one that a browser's script ran on."""
    for place in places:
        for name in ("$current_url", "url", "page_url", "path", "$pathname"):
            if isinstance(page := place.get(name), str) and page:
                return page
    return request.headers.get("referer") if side_of(request) == "browser" else None


def refuse(record: InspectedRecord, rule: str) -> InspectedRecord:
    """The record, refused for something that is not its own."""
    return replace(record, accepted=False, rules=[rule])


def as_one(records: Sequence[InspectedRecord], name: str = "events") -> tuple[Sequence[InspectedRecord], str | None]:
    """A batch is taken whole or not at all: with one event refused, so are the others.

    Gives the records, and the rule that was broken first.
    """
    culprit = next((n for n, record in enumerate(records) if not record.accepted), None)
    if culprit is None:
        return records, None
    rule = f"{name}[{culprit}] was refused, and the whole batch with it"
    judged = [refuse(record, rule) if record.accepted else record for record in records]
    return judged, f"{name}[{culprit}].{records[culprit].rules[0]}"
