"""Minor units to major units, exactly: 4900 of USD is 49.00, 4900 of JPY is 4900.

The exponents are those of ISO 4217, list one: https://www.iso.org/iso-4217-currency-codes.html
"""

from __future__ import annotations

from decimal import Decimal

__all__ = ["exponent", "to_major"]

_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD "
    "HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT "
    "MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD "
    "SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS "
    "VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_BY_CODE = {code: digits for digits, codes in _EXPONENTS.items() for code in codes.split()}


def exponent(currency: str) -> int | None:
    """Return the number of decimal places of a currency; None if ISO 4217 does not define it.

    Args:
        currency: Code of three letters, upper or lower case.

    Example:
        >>> exponent("usd"), exponent("JPY"), exponent("KWD"), exponent("BTC")
        (2, 0, 3, None)
    """
    return _BY_CODE.get(currency.strip().upper())


def to_major(amount: int | Decimal, currency: str) -> Decimal | None:
    """Convert an amount from minor to major units without rounding; None for an unknown currency.

    Example:
        >>> to_major(4900, "USD"), to_major(4900, "JPY")
        (Decimal('49.00'), Decimal('4900'))
    """
    places = exponent(currency)
    if places is None:
        return None
    # Decimal's own arithmetic would round to the thread's precision.
    sign, digits, power = Decimal(amount).as_tuple()
    return Decimal((sign, digits, power - places)) if isinstance(power, int) else None
