"""Minor units to major units."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.destinations.currency import exponent, to_major

KNOWN = st.sampled_from(["USD", "EUR", "JPY", "KRW", "KWD", "CLF"])


@pytest.mark.parametrize(
    ("currency", "places"),
    [
        ("USD", 2),
        ("eur", 2),
        (" gbp ", 2),
        ("JPY", 0),
        ("VND", 0),
        ("ISK", 0),
        ("BHD", 3),
        ("TND", 3),
        ("CLF", 4),
        ("UYW", 4),
    ],
)
def test_each_currency_has_its_places(currency: str, places: int) -> None:
    assert exponent(currency) == places


@pytest.mark.parametrize("currency", ["BTC", "", "US", "DOLLAR", "XAU", "XXX", "points"])
def test_what_iso_4217_gives_no_minor_unit_is_unknown(currency: str) -> None:
    assert exponent(currency) is None
    assert to_major(4900, currency) is None


@given(st.integers(), KNOWN)
def test_nothing_is_lost(amount: int, currency: str) -> None:
    major = to_major(amount, currency)
    assert major is not None
    with localcontext(prec=200):
        assert major * 10 ** (exponent(currency) or 0) == amount


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3), KNOWN)
def test_fractions_of_the_minor_unit_are_kept(amount: Decimal, currency: str) -> None:
    major = to_major(amount, currency)
    assert major is not None
    with localcontext(prec=200):
        assert major * 10 ** (exponent(currency) or 0) == amount


def test_the_threads_own_precision_does_not_matter() -> None:
    with localcontext(prec=3):
        assert str(to_major(123456789, "USD")) == "1234567.89"


@pytest.mark.parametrize(("amount", "text"), [(4900, "49.00"), (5, "0.05"), (0, "0.00"), (-1, "-0.01")])
def test_all_places_are_written(amount: int, text: str) -> None:
    assert str(to_major(amount, "USD")) == text


def test_a_value_that_is_not_a_number_is_unknown() -> None:
    assert to_major(Decimal("NaN"), "USD") is None
