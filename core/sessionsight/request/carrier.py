"""Reading of carriers in the shapes in which payment providers return metadata.

| shape | for instance |
|---|---|
| names and values | Stripe's `metadata` (https://docs.stripe.com/metadata), Paddle's `custom_data` (https://developer.paddle.com/api-reference/about/custom-data), Razorpay's `notes` (https://razorpay.com/docs/api/entity-metadata/) |
| an object that is not a mapping | Stripe's package since version 15 (https://github.com/stripe/stripe-python/wiki/Migration-guide-for-v15); Paddle's, which keeps the mapping in `data` (https://github.com/PaddleHQ/paddle-python-sdk) |
| a list of pairs | Shopify's attributes (https://shopify.dev/docs/api/admin-graphql/latest/objects/Attribute), WooCommerce's `meta_data` (https://woocommerce.github.io/woocommerce-rest-api-docs/), Braintree's custom fields (https://developer.paypal.com/braintree/graphql/reference/types/custom-field), Paystack's `custom_fields` (https://paystack.com/docs/payments/metadata/) |
| JSON text | Paystack's `metadata` (https://paystack.com/docs/api/transaction/), Mollie's, if it was given as text (https://docs.mollie.com/reference/create-payment) |
| inside another object | Lemon Squeezy's `meta.custom_data` (https://docs.lemonsqueezy.com/help/checkout/passing-custom-data) |
"""  # noqa: E501  # addresses

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

__all__ = ["Carrier", "Metadata", "reader"]


class Carrier(Protocol):
    """A source of a context: a mapping, or any object that returns a value for a name."""

    def __getitem__(self, name: str, /) -> object:
        """Return the value of this name. Raises `KeyError` if it is missing."""


Metadata = Carrier | Sequence[Mapping[str, object]] | str
"""Metadata as a provider returns it: names and values, a list of pairs, or JSON text of either."""

# The fields that hold metadata in a provider's objects.
_CONTAINERS = ("metadata", "custom_data", "custom_fields", "notes", "note_attributes", "meta_data")
# The fields that hold the name of a pair: Shopify REST and Braintree, WooCommerce and Shopify GraphQL, Paystack.
_PAIR_NAMES = frozenset({"name", "key", "variable_name"})
# The beginning of an object or of a list of objects, which may be truncated; not of a note such as "[gift] for Ann".
_JSON = re.compile(r"\s*(?:\{\s*(?:[\"}]|$)|\[\s*(?:[{\]]|$))")


def reader(carrier: object) -> Callable[[str], object]:
    """Return a function that returns the first value of a name that is not empty, otherwise None.

    Raises:
        TypeError: The carrier has no values by name.
        ValueError: The carrier is text that is not JSON, for instance because it was truncated.
    """
    outer = _source(carrier)
    sources = [outer]
    for name in _CONTAINERS:
        inner = _value(outer, name)
        if isinstance(inner, str) and not _JSON.match(inner):
            continue  # a note in words
        try:
            sources.append(_source(inner))
        except TypeError:
            continue

    def get(name: str) -> object:
        found = (_value(source, name) for source in sources)
        return next((value for value in found if not _is_empty(value)), None)

    return get


def _source(carrier: object) -> Carrier:
    if isinstance(carrier, str):
        try:
            carrier = msgspec.json.decode(carrier)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if carrier is None:
            return {}
    if isinstance(carrier, Sequence) and not isinstance(carrier, str | bytes | bytearray):
        return _from_pairs(carrier)
    source: Any = carrier
    if not hasattr(source, "__getitem__"):
        source = getattr(source, "data", source)
    _value(source, _CONTAINERS[0])  # raises TypeError if names are not accepted
    return source  # type: ignore[no-any-return]  # shown by the line above


def _from_pairs(pairs: Sequence[object]) -> dict[str, object]:
    """Return the values of a list of pairs, such as `[{"name": "ss_sid", "value": "6f1d2c3b"}]`."""
    values: dict[str, object] = {}
    for pair in pairs:
        if not isinstance(pair, Mapping) or _PAIR_NAMES.isdisjoint(pair):
            raise TypeError("an item of the list is not a pair of a name and a value")
        name = next(pair[field] for field in pair if field in _PAIR_NAMES)
        if isinstance(name, str) and _is_empty(values.get(name)):
            values[name] = pair.get("value")
    return values


def _value(source: Carrier, name: str) -> object:
    try:
        # Not by brackets from a mapping, because a defaultdict would get an item.
        return source.get(name) if isinstance(source, Mapping) else source[name]
    except (LookupError, AttributeError):
        return None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)
