"""The tracking context: the ids and page facts of a request, as one frozen value.

Each id is stored under the vendor whose browser code created it, so that a session id cannot be sent to another vendor
by mistake. A context passes through a job queue or a payment provider's metadata as a flat dict of short strings, the
*carrier*.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import asdict, fields, force_setattr, replace

from sessionsight.request.carrier import Metadata, reader

__all__ = ["Page", "SessionSightIds", "SignalIds", "TrackingContext", "valid_id", "valid_session_id"]

# Stripe's metadata limits, which are the tightest of the carriers in common use:
# https://docs.stripe.com/api/metadata
CARRIER_MAX_VALUE = 500

# The largest integer that every JSON parser reads exactly; a rounded id would be somebody else's.
MAX_EXACT_INTEGER = 2**53 - 1

OPTED_OUT_NAME = "ss_opted_out"
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
    def from_carrier(cls, carrier: Metadata | None) -> TrackingContext:
        """Return the context in a carrier, which may contain other values as well.

        The carrier may have any shape in which payment providers return metadata: a mapping or an object that returns
        values by name (https://docs.stripe.com/metadata), a list of pairs such as `{"name": ..., "value": ...}`
        (https://shopify.dev/docs/api/admin-graphql/latest/objects/Attribute), JSON text of either
        (https://paystack.com/docs/api/transaction/), or an object that has one of these in its field `metadata`,
        `custom_data`, `custom_fields`, `notes`, `note_attributes` or `meta_data`, such as `meta` of Lemon Squeezy
        (https://docs.lemonsqueezy.com/help/checkout/passing-custom-data). Integers are accepted as ids, because some
        providers convert digits to numbers (https://docs.moyasar.com/api/metadata).

        Never raises because of a carrier's content: unknown names are ignored, and an invalid value counts as missing.
        None, as of an object without metadata, is an empty context. A refusal of consent takes precedence over ids,
        which a carrier may contain as well if it was written twice. Anything that cannot be read, such as truncated
        JSON text, is logged as an error and counts as a refusal, because it may contain one.

        Example:
            >>> TrackingContext.from_carrier([{"name": "ss_user_id", "value": 42}]).user_id
            '42'
        """
        if carrier is None or (isinstance(carrier, str) and not carrier):
            return EMPTY_CONTEXT
        try:
            get = reader(carrier)
        except (TypeError, ValueError) as error:
            _logger.error(  # noqa: TRY400  # the caller's mistake, which our traceback does not explain
                "from_carrier(): no names and values can be read from this %s (%s), so nothing is captured under it; "
                "pass the metadata as the provider returned it: a mapping, a list of pairs, or JSON text",
                type(carrier).__name__,
                error,
            )
            return OPTED_OUT
        # A provider may have converted the value: any value except a missing or empty one is a refusal.
        if get(OPTED_OUT_NAME) is not None:
            return OPTED_OUT

        def text(name: str) -> str | None:
            value = get(name)
            return value if isinstance(value, str) and 0 < len(value) <= CARRIER_MAX_VALUE else None

        def id_(name: str, is_valid: Callable[[str], bool] = valid_id) -> str | None:
            value = get(name)
            if type(value) is int and abs(value) <= MAX_EXACT_INTEGER:
                value = str(value)
            return value if isinstance(value, str) and is_valid(value) else None

        return cls(
            sessionsight=SessionSightIds(
                session_id=id_("ss_sid", valid_session_id), visitor_id=id_("ss_vid", valid_session_id)
            ),
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
            OPTED_OUT_NAME: "1" if self.opted_out else None,
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
