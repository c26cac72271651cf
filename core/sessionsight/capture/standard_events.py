"""Typed standard events, with the names, properties and enums that Analyse.net documents.

Every destination that takes events gets them. Amounts are in minor units (4900 is 49.00 dollars), and
each destination gets them in the unit its vendor wants.

https://analyse.net/docs/standard-events
https://github.com/track/sdk (`src/events/*`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from sessionsight.capture.scalars import to_python
from sessionsight.capture.type_checks import describe_value, is_finite
from sessionsight.capture.typed_events import Event
from sessionsight.javascript import is_blank, trim

__all__ = [
    "CheckoutCancelled",
    "CheckoutFinished",
    "CheckoutStarted",
    "ContentViewed",
    "SignupCompleted",
    "StandardEvent",
    "SubscriptionCancelled",
    "TrialEnded",
    "TrialStarted",
]

Number: TypeAlias = int | float | Decimal
Text: TypeAlias = str | UnsetType | None
Count: TypeAlias = Number | UnsetType | None
PaymentType = Literal["one_time", "subscription"]
BillingInterval = Literal["month", "year", "week"]


class StandardEvent(Event):
    """Base class of the standard events.

    An option that is not given does not appear among the properties; an explicit None does. What the vendor would
    object to raises in `strict` mode, when the event is captured; otherwise it is logged and the event is sent all the
    same, as the vendor's own SDK does, with what is there. A subclass keeps the standard event's name.

    Not to be made itself; use one of the events.
    """

    extra: Mapping[str, Any] = field(default_factory=dict)
    """More properties, under names of your own. A field that is set takes precedence over one of these."""

    @classmethod
    def _default_name(cls) -> str:
        inherited = Event not in {cls.__base__, getattr(cls.__base__, "__base__", None)}
        return cls.event_name if inherited else super()._default_name()

    def properties(self) -> dict[str, Any]:
        """Return the properties by their names on the wire.

        Unset ones are left out. A currency is trimmed and upper-cased, and disappears when it is empty.

        Example:
            >>> CheckoutStarted(payment_type="one_time", currency=" usd ", extra={"lang": "en"}).properties()
            {'lang': 'en', 'payment_type': 'one_time', 'currency': 'USD'}
        """
        given = {**vars(self)["_unknown"], **super().properties()}
        extra = given.pop("extra")
        properties = {**extra, **given} if isinstance(extra, Mapping) else given
        properties = {name: value for name, value in properties.items() if value is not UNSET}
        currency = properties.get("currency")
        if isinstance(currency, str):
            properties["currency"] = trim(currency).upper()
            if not properties["currency"]:
                del properties["currency"]
        return properties

    def _field_errors(self) -> list[str]:
        return [*super()._field_errors(), *self._extra_errors()]

    def _extra_errors(self) -> list[str]:
        return []


class ContentViewed(StandardEvent):
    """Somebody read an article, a post or a page.

    Example:
        >>> ContentViewed(content_id="pricing-guide", content_type="article").properties()
        {'content_id': 'pricing-guide', 'content_type': 'article'}
    """

    event_name: ClassVar[str] = "content_viewed"

    content_id: str
    """Not blank."""
    content_type: Literal["blog_post", "article", "page", "doc"] | UnsetType | None = UNSET
    title: Text = UNSET

    def _extra_errors(self) -> list[str]:
        content_id: object = self.content_id
        return ["content_id is blank"] if isinstance(content_id, str) and is_blank(content_id) else []


class SignupCompleted(StandardEvent):
    """Somebody has an account now.

    Attribution goes into `extra`, under the vendor's names: `first_` and `last_` before `content_id`,
    `content_type`, `content_title`, `utm_source`, `utm_medium`, `utm_campaign`, `utm_term`, `utm_content`,
    `referrer_domain` and `touched_at`, and `content_touchpoint_count`. Only the vendor's browser script
    knows them by itself.

    Example:
        >>> SignupCompleted(method="email", extra={"first_utm_source": "news"}).properties()
        {'first_utm_source': 'news', 'method': 'email'}
    """

    event_name: ClassVar[str] = "signup_completed"

    method: Literal["email", "oauth", "invite", "sso"] | UnsetType | None = UNSET
    plan: Text = UNSET
    trial_days: Count = UNSET


class _Checkout(StandardEvent):
    """Fields of the three checkout events."""

    payment_type: PaymentType
    billing_interval: BillingInterval | UnsetType | None = UNSET
    """Needed for a subscription, not allowed for a one-time payment."""
    checkout_id: Text = UNSET
    """The same at each step of one checkout."""
    amount: Count = UNSET
    """In minor units: 4900 for 49.00 dollars, 4900 for 4900 yen."""
    currency: Text = UNSET
    """A code of ISO 4217, such as `"USD"`."""
    product_id: Text = UNSET
    plan: Text = UNSET
    items_count: Count = UNSET
    coupon: Text = UNSET

    def _extra_errors(self) -> list[str]:
        interval = self.billing_interval is not UNSET and self.billing_interval is not None
        found: list[str] = []
        if self.payment_type == "subscription" and not interval:
            found.append("a subscription needs a billing_interval: month, year or week")
        elif self.payment_type == "one_time" and interval:
            found.append("a one-time payment has no billing_interval")
        amount = _plain(self.amount)
        if (isinstance(amount, float) and is_finite(amount) and not amount.is_integer()) or (
            isinstance(amount, Decimal) and is_finite(amount) and amount != amount.to_integral_value()
        ):
            found.append(f"amount is in minor units, and so a whole number (4990 for 49.90), not {amount}")
        return found


class CheckoutStarted(_Checkout):
    """Somebody began to pay.

    Example:
        >>> CheckoutStarted(payment_type="one_time", amount=4900, currency="USD").validation_errors()
        []
    """

    event_name: ClassVar[str] = "checkout_started"


class CheckoutCancelled(_Checkout):
    """A checkout ended without a payment."""

    event_name: ClassVar[str] = "checkout_cancelled"

    reason: Literal["user_abandoned", "payment_failed", "validation_error", "other"] | UnsetType | None = UNSET
    step: Text = UNSET
    """Where it ended, in your own words."""


class CheckoutFinished(_Checkout):
    """Somebody paid.

    Example:
        >>> event = CheckoutFinished(payment_type="subscription", amount=-1)
        >>> for problem in event.validation_errors():
        ...     print(problem)
        checkout_finished: a subscription needs a billing_interval: month, year or week
        checkout_finished: amount must not be negative, and is -1
    """

    event_name: ClassVar[str] = "checkout_finished"

    amount: Number = field()  # explicit, because type checkers would otherwise inherit the default
    """In minor units: 4900 for 49.00 dollars, 4900 for 4900 yen. Zero for a free order."""
    order_id: Text = UNSET
    subscription_id: Text = UNSET
    """Only for a subscription."""

    def _extra_errors(self) -> list[str]:
        found = _Checkout._extra_errors(self)
        amount = _plain(self.amount)
        if isinstance(amount, int | float | Decimal) and is_finite(amount) and amount < 0:
            found.append(f"amount must not be negative, and is {amount}")
        if self.payment_type == "one_time" and self.subscription_id is not UNSET and self.subscription_id is not None:
            found.append("a one-time payment has no subscription_id")
        return found


class TrialStarted(StandardEvent):
    """A trial began."""

    event_name: ClassVar[str] = "trial_started"

    plan: str
    trial_days: Number
    payment_type: Literal["subscription"] | UnsetType | None = UNSET


class TrialEnded(StandardEvent):
    """A trial ended, one way or the other."""

    event_name: ClassVar[str] = "trial_ended"

    plan: str
    converted: bool
    """True if it became a paid subscription."""
    reason: Literal["expired", "converted", "cancelled"] | UnsetType | None = UNSET
    payment_type: Literal["subscription"] | UnsetType | None = UNSET


class SubscriptionCancelled(StandardEvent):
    """A subscription was ended."""

    event_name: ClassVar[str] = "subscription_cancelled"

    plan: str
    payment_type: Literal["subscription"] = "subscription"
    billing_interval: BillingInterval | UnsetType | None = UNSET
    reason: Literal["user_request", "payment_failed", "admin", "other"] | UnsetType | None = UNSET
    effective_at: date | datetime | Text = UNSET
    """When it ends: a date, a datetime, or either as an ISO 8601 string."""

    def _extra_errors(self) -> list[str]:
        if isinstance(self.effective_at, str):
            try:
                datetime.fromisoformat(self.effective_at)
            except ValueError:
                return [f"effective_at must be a date of ISO 8601, not {describe_value(self.effective_at)}"]
        return []


def _plain(value: Any) -> Any:
    """Return a number of another library as Python's."""
    plain = to_python(value)
    return value if plain is UNSET else plain
