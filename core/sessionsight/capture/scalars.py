"""Converts scalars of other libraries to Python values: numpy's, pandas', pyarrow's, and other numbers and ids.

None of these libraries is imported. Their types are recognized by their attributes and by their names.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from numbers import Integral, Real
from typing import Any

from msgspec import UNSET

__all__ = ["packages", "to_microseconds", "to_python"]

_FINE = ("[ns]", "[ps]", "[fs]", "[as]")
# Package and type name of ids other than the standard library's UUID: MongoDB's, and two from PyPI.
_IDS = {("bson", "ObjectId"), ("ulid", "ULID"), ("uuid_utils", "UUID")}


def to_python(value: Any) -> Any:
    """Return the Python value of another library's scalar, as its own `.item()` gives it.

    Returns:
        The value; None for one that is missing (pandas' NA and NaT, numpy's NaT); `msgspec.UNSET` for anything that
        is not such a scalar. A NaN is returned as a float.

    Example:
        >>> from fractions import Fraction
        >>> to_python(Fraction(499, 10)), to_python(object())
        (49.9, UNSET)
    """
    kind = type(value)
    if kind is bool:
        return UNSET
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return None if value != value else UNSET  # noqa: PLR0124  # pandas' NaT is a datetime that equals nothing
    if hasattr(kind, "dtype") and hasattr(kind, "tolist"):
        return _from_numpy(value) if value.shape == () else UNSET
    if hasattr(kind, "as_py"):
        return value.as_py()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if hasattr(kind, "to_decimal"):
        return value.to_decimal()
    if kind.__name__ == "NAType" and "pandas" in packages(kind):
        return None
    bases = zip(packages(kind), (base.__name__ for base in kind.__mro__), strict=True)
    return UNSET if _IDS.isdisjoint(bases) else str(value)


def packages(kind: type) -> list[str]:
    """Return the top-level packages that a type and its bases come from, in the order of its bases.

    Example:
        >>> packages(datetime)
        ['datetime', 'datetime', 'builtins']
    """
    return [base.__module__.partition(".")[0] for base in kind.__mro__]


def to_microseconds(value: Any) -> Any:
    """Return numpy's times in microseconds where they are finer, because numpy makes integers of those; else the value.

    Args:
        value: A scalar or an array, of any library.
    """
    dtype: Any = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in {"M", "m"} and dtype.str.endswith(_FINE) and "numpy" in packages(type(value)):
        return value.astype(f"{dtype.kind}8[us]")
    return value


def _from_numpy(value: Any) -> Any:
    """Convert a scalar, or an array without dimensions."""
    kind = getattr(value.dtype, "kind", "")
    found = to_microseconds(value).tolist()
    if kind == "f" and type(found) is type(value):
        return float(value)  # a longdouble
    if kind == "M" and isinstance(found, int):
        return str(value)  # a year that Python's datetimes do not reach
    if kind == "V" and value.dtype.names:
        return dict(zip(value.dtype.names, found, strict=True))
    return UNSET if kind == "c" else found
