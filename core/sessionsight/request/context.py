"""The tracking context: the ids and page facts of a request, as one frozen value.

Each id is stored under the vendor whose browser code created it, so that a session id cannot be sent to another vendor
by mistake. A context passes through a job queue or a payment provider's metadata as a flat dict of short strings, the
*carrier*.
"""

from __future__ import annotations

import logging
import re
from typing import Protocol

from msgspec import Struct
from msgspec.structs import asdict, fields, force_setattr, replace

__all__ = ["Page", "SessionSightIds", "SignalIds", "TrackingContext", "valid_id", "valid_session_id"]

# Stripe's metadata limits, which are the tightest of the carriers in common use:
# https://docs.stripe.com/api/metadata
CARRIER_MAX_VALUE = 500

_OPTED_OUT = "ss_opted_out"
_logger = logging.getLogger("sessionsight")

MAX_ID = 256
_SESSIONSIGHT_ID = re.compile(r"[A-Za-z0-9-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def valid_session_id(value: str) -> bool:
    """Return whether SessionSight accepts this session or visitor id.

    Source: https://sessionsight.com/docs/build/api-reference/goals/increment
    """
    return _SESSIONSIGHT_ID.fullmatch(value) is not None


def valid_id(value: str) -> bool:
    """Return whether an id is valid: not blank, short, and without control characters."""
    if not 0 < len(value) <= MAX_ID or value.isspace():
        return False
    # A fast path for nearly all ids.
    return (value.isascii() and value.isprintable()) or _CONTROL.search(value) is None


class SessionSightIds(Struct, frozen=True, kw_only=True, gc=False):
    """The ids that SessionSight's browser SDK keeps in cookies."""

    session_id: str | None = None
    """The `ss_sid` cookie."""
    visitor_id: str | None = None
    """The `ss_vid` cookie."""


class SignalIds(Struct, frozen=True, kw_only=True, gc=False):
    """The ids that Signal's browser SDK adds to fetch and XHR requests as headers."""

    session_id: str | None = None
    """The `x-signal-session-id` header."""
    window_id: str | None = None
    """The `x-signal-window-id` header."""
    distinct_id: str | None = None
    """The `x-signal-distinct-id` header."""


class Page(Struct, frozen=True, kw_only=True, gc=False):
    """Facts about the requested page or endpoint.

    Both URLs have no query string except the `utm_*` parameters.
    """

    url: str | None = None
    path: str | None = None
    """The path as in the URL, percent-encoded."""
    route: str | None = None
    """The route's template, such as `/orders/<int:id>`, in the framework's own notation."""
    hostname: str | None = None
    referrer: str | None = None
    referrer_domain: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    user_agent: str | None = None
    client_ip: str | None = None
    """Only if the `client_ip` setting enables it."""


NO_SESSIONSIGHT = SessionSightIds()
NO_SIGNAL = SignalIds()
NO_PAGE = Page()


class Carrier(Protocol):
    """A source of a context: a mapping, or any object that returns a value for a name.

    Metadata of Stripe's own package is not a mapping since its version 15:
    https://github.com/stripe/stripe-python/wiki/Migration-guide-for-v15
    """

    def __getitem__(self, name: str, /) -> object:
        """Return the value of this name. Raises `KeyError` if it is missing."""


class TrackingContext(Struct, frozen=True, kw_only=True, gc=False):
    """The ids and page facts of one request, or the fact that its visitor has refused consent.

    Example:
        >>> context = TrackingContext(sessionsight=SessionSightIds(session_id="6f1d2c3b"))
        >>> context.to_carrier()
        {'ss_sid': '6f1d2c3b'}
        >>> TrackingContext.from_carrier({"ss_sid": "6f1d2c3b"}) == context
        True
    """

    sessionsight: SessionSightIds = NO_SESSIONSIGHT
    signal: SignalIds = NO_SIGNAL
    user_id: str | None = None
    """The app's own id of the signed-in user."""
    anonymous_id: str | None = None
    """The site's own anonymous id, from `anonymous_id_cookie` or `anonymous_id_header`."""
    page: Page = NO_PAGE
    opted_out: bool = False
    """True if the visitor has refused consent. Such a context has no other values, and records captured under it are
    dropped."""

    def __post_init__(self) -> None:
        if self.opted_out:
            for field in fields(self):
                force_setattr(self, field.name, field.name == "opted_out" or field.default)

    @property
    def session_id(self) -> str | None:
        """A session id for display: Signal's, otherwise SessionSight's. It is never sent."""
        return self.signal.session_id or self.sessionsight.session_id

    def to_carrier(self) -> dict[str, str]:
        """Return the context as a flat dict of short strings for `from_carrier`.

        The dict fits into Stripe's metadata (50 keys of 40 characters, values of 500). Longer page facts are left out,
        not truncated. If the visitor has refused consent, the carrier contains only that fact.

        Example:
            >>> TrackingContext(user_id="user_1", opted_out=True).to_carrier()
            {'ss_opted_out': '1'}
        """
        return {name: value for name, value in self._flat().items() if value and len(value) <= CARRIER_MAX_VALUE}

    @classmethod
    def from_carrier(cls, carrier: Carrier | None) -> TrackingContext:
        """Return the context in a carrier, which may contain other values as well.

        Never raises because of a carrier's content: unknown names are ignored, and an invalid value counts as missing.
        None, as of an object without metadata, is an empty context. A refusal of consent takes precedence over ids,
        which a carrier may contain as well if it was written twice. Anything that does not return values by name, such
        as JSON text or a list, is logged as an error and counts as a refusal, because it may contain one.
        """
        given: object = carrier
        if carrier is None or (isinstance(given, str) and not given):
            return EMPTY_CONTEXT

        def get(name: str) -> object:
            try:
                return carrier[name]
            except LookupError:
                return None

        try:
            refusal = get(_OPTED_OUT)
        except TypeError:
            _logger.error(  # noqa: TRY400  # the caller's mistake, which our traceback does not explain
                "from_carrier(): a carrier is a mapping of names to strings, not a %s, so nothing is captured "
                "under it; decode JSON text first",
                type(carrier).__name__,
            )
            return OPTED_OUT
        # A job queue may have converted the value: any value except a missing or empty one is a refusal.
        if refusal is not None and not (isinstance(refusal, str) and not refusal):
            return OPTED_OUT

        def text(name: str) -> str | None:
            value = get(name)
            return value if isinstance(value, str) and 0 < len(value) <= CARRIER_MAX_VALUE else None

        def id_(name: str) -> str | None:
            value = text(name)
            return value if value is not None and valid_id(value) else None

        def session_id(name: str) -> str | None:
            value = text(name)
            return value if value is not None and valid_session_id(value) else None

        return cls(
            sessionsight=SessionSightIds(session_id=session_id("ss_sid"), visitor_id=session_id("ss_vid")),
            signal=SignalIds(
                session_id=id_("ss_signal_session_id"),
                window_id=id_("ss_signal_window_id"),
                distinct_id=id_("ss_signal_distinct_id"),
            ),
            user_id=id_("ss_user_id"),
            anonymous_id=id_("ss_anonymous_id"),
            page=Page(**{name: text(f"ss_page_{name}") for name in Page.__struct_fields__}),
        )

    def with_user(self, user_id: str | None) -> TrackingContext:
        """Return the same context with this user."""
        return self if user_id == self.user_id else replace(self, user_id=user_id)

    def _flat(self) -> dict[str, str | None]:
        flat: dict[str, str | None] = {
            _OPTED_OUT: "1" if self.opted_out else None,
            "ss_sid": self.sessionsight.session_id,
            "ss_vid": self.sessionsight.visitor_id,
            "ss_signal_session_id": self.signal.session_id,
            "ss_signal_window_id": self.signal.window_id,
            "ss_signal_distinct_id": self.signal.distinct_id,
            "ss_user_id": self.user_id,
            "ss_anonymous_id": self.anonymous_id,
        }
        flat.update((f"ss_page_{name}", value) for name, value in asdict(self.page).items())
        return flat


EMPTY_CONTEXT = TrackingContext()
OPTED_OUT = TrackingContext(opted_out=True)
