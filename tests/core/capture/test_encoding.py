import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import pathlib
import uuid
from collections import UserString
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import attrs
import msgspec
import pydantic
import pytest
from django.utils.functional import lazystr
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.capture.encoding import MAX_DEPTH, PropertyEncoder, decode, encode
from sessionsight.errors import InvalidPropertiesError


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def strictly(encoded: bytes) -> Any:
    return json.loads(encoded.decode("utf-8"), parse_constant=refuse, parse_float=Decimal)


def written(value: Any) -> Any:
    """Return the encoded value of a property, decoded by another JSON parser."""
    return strictly(PropertyEncoder()({"value": value}))["value"]


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Whole(int):
    pass


class Fraction(float):
    pass


class Moment(dt.datetime):
    pass


class Span(dt.timedelta):
    pass


class Colour(str, enum.Enum):  # noqa: UP042  # as written before Python 3.11
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Pair(enum.Enum):
    BOTH = (1, Decimal("1.50"))


class LazyString:
    """As in Flask-Babel and speaklater."""

    def __str__(self) -> str:
        return "Grüße"


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024  # the untyped one is what is tested


@dataclasses.dataclass
class Address:
    street: str
    more: Any = None
    kind: ClassVar[str] = "address"
    _secret: str = "hidden"
    later: int = dataclasses.field(init=False)


@attrs.define
class Order:
    number: int
    address: Any = None
    _secret: int = 1


class Line(msgspec.Struct, rename="camel"):
    unit_price: Decimal
    note: str | msgspec.UnsetType = msgspec.UNSET


class Product(pydantic.BaseModel):
    name: str
    price: Decimal = Decimal("9.90")
    parts: list["Product"] = []
    secret: int = pydantic.Field(default=0, exclude=True)


@pydantic.dataclasses.dataclass
class Shelf:
    product: Product


class Box(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return 5

    def __iter__(self) -> Iterator[str]:
        yield "inside"

    def __len__(self) -> int:
        return 1


UUID = uuid.UUID("6f1d2c3b-0000-4000-8000-000000000001")
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=dt.UTC)

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (5, 5),
    (2**70, 2**70),
    (-(2**70), -(2**70)),
    (1.5, Decimal("1.5")),
    ("text", "text"),
    ([1, [2]], [1, [2]]),
    ((1, (2,)), [1, [2]]),
    ({"a": {"b": 1}}, {"a": {"b": 1}}),
    (Whole(5), 5),
    (Fraction(1.5), Decimal("1.5")),
    (NOW, "2026-01-02T03:04:05.000600Z"),
    (NOW.replace(tzinfo=None), "2026-01-02T03:04:05.000600"),
    (NOW.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))), "2026-01-02T08:34:05.000600+05:30"),
    (Moment(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00Z"),
    (NOW.date(), "2026-01-02"),
    (dt.time(3, 4), "03:04:00"),
    (dt.timedelta(days=1, seconds=3), "P1DT3S"),
    (Span(days=1, microseconds=5), "P1DT0.000005S"),
    (Decimal("49.90"), Decimal("49.90")),
    (Decimal("0.1") + Decimal("0.2"), Decimal("0.3")),
    (Decimal("12345678901234567890.12345678901234567890"), Decimal("12345678901234567890.12345678901234567890")),
    (Decimal("1E+400"), Decimal("1E+400")),
    (UUID, str(UUID)),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Pair.BOTH, [1, Decimal("1.50")]),
    (pathlib.PurePosixPath("/var/x"), "/var/x"),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({"b", 1, None}, ["b", 1, None]),
    ({"a": 1}.keys(), ["a"]),
    (b"ab", "YWI="),
    (bytearray(b"ab"), "YWI="),
    (memoryview(b"ab"), "YWI="),
    (Text("this"), "this"),
    (SafeString("<b>"), "<b>"),
    (lazystr("Grüße"), "Grüße"),
    (LazyString(), "Grüße"),
    (UserString("Grüße"), "Grüße"),
    (Address("s", more=Address("t")), {"street": "s", "more": {"street": "t", "more": None}}),
    (Order(1, address=Address("s")), {"number": 1, "address": {"street": "s", "more": None}}),
    (Line(Decimal("1.10")), {"unitPrice": Decimal("1.10")}),
    (Line(Decimal(1), note="n"), {"unitPrice": 1, "note": "n"}),
    (Product(name="a"), {"name": "a", "price": Decimal("9.90"), "parts": []}),
    (
        Product(name="a", parts=[Product(name="b")]),
        {"name": "a", "price": Decimal("9.90"), "parts": [{"name": "b", "price": Decimal("9.90"), "parts": []}]},
    ),
    (Shelf(Product(name="a")), {"product": {"name": "a", "price": Decimal("9.90"), "parts": []}}),
    (Point(1, 2), [1, 2]),
    (collections.deque([1]), [1]),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (Box(), {"inside": 5}),
    (range(3), [0, 1, 2]),
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    (Decimal("NaN"), None),
    (Decimal("sNaN"), None),
    (Decimal("-Infinity"), None),
    ("NaN, Infinity", "NaN, Infinity"),
    ("a\ud800b", "a\ufffdb"),
    ("\udcff", "\ufffd"),
    ("😀\u2028\x00", "😀\u2028\x00"),
    ({1: "a"}, {"1": "a"}),
    ({None: 1, True: 2, 1.5: 3}, {"null": 1, "true": 2, "1.5": 3}),
    ({UUID: 1, NOW.date(): 2, Colour.RED: 3}, {str(UUID): 1, "2026-01-02": 2, "red": 3}),
    ({(1, 2): 1}, {"[1,2]": 1}),
    ({"\ud800": 1}, {"\ufffd": 1}),
    ({Text("this"): 1}, {"this": 1}),
]  # fmt: skip


CASES = [
    pytest.param(value, expected, id=f"{number} {type(value).__name__}")
    for number, (value, expected) in enumerate(VALUES)
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_each_type_is_written_as_documented(value: Any, expected: Any) -> None:
    assert written(value) == expected
    assert type(written(value)) is type(expected)


@pytest.mark.parametrize(("value", "expected"), CASES)
@pytest.mark.parametrize("neighbour", [Decimal("NaN"), {1}, "\ud800"])
def test_each_type_is_written_alike_beside_a_value_that_needs_the_long_way(
    value: Any, expected: Any, neighbour: Any
) -> None:
    assert written([value, neighbour])[0] == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("49.90"), b"49.90"),
        (Decimal("49.0"), b"49.0"),
        (Decimal("-0.00"), b"-0.00"),
        (1e22, b"1e22"),
        (2**64, b"18446744073709551616"),
    ],
)
def test_numbers_keep_their_digits(value: Any, text: bytes) -> None:
    encoded = PropertyEncoder()({"n": value})
    assert encoded == b'{"n":%s}' % text
    assert encode(decode(encoded)) in {encoded, encoded.replace(b"1e22", b"1E+22")}


def test_properties_keep_their_order() -> None:
    assert PropertyEncoder()({"b": 1, "a": {"d": 1, "c": 2}}) == b'{"b":1,"a":{"d":1,"c":2}}'
    assert PropertyEncoder()({"b": 1, "a": {1, 2}}) == b'{"b":1,"a":[1,2]}'


def test_no_properties_are_an_empty_object() -> None:
    assert PropertyEncoder()(None) == b"{}"
    assert PropertyEncoder()({}) == b"{}"


class Basket:
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Basket(), "<Basket>"),
        (Basket, "<type>"),
        (1j, "<complex>"),
        (ValueError("secret"), "<ValueError>"),
        (msgspec.Raw(b"NaN"), "<Raw>"),
        ((character for character in "text"), "<generator>"),
    ],
)
def test_an_unknown_object_becomes_its_types_name_and_is_told_of_once_a_value(value: Any, expected: str) -> None:
    told: list[type] = []
    encoded = PropertyEncoder(unknown=told.append)({"a": value, "b": "\ud800"})
    assert strictly(encoded) == {"a": expected, "b": "\ufffd"}
    assert told == [type(value)]


@pytest.mark.parametrize("properties", [5, "text", [("a", 1)], Basket(), {1, 2}])
def test_properties_that_are_no_mapping_are_refused_by_their_type(properties: Any) -> None:
    with pytest.raises(InvalidPropertiesError, match=f"not {type(properties).__name__}"):
        PropertyEncoder()(properties)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_values_may_be_nested_a_hundred_deep_and_no_deeper() -> None:
    encoded = PropertyEncoder()({"a": nested(MAX_DEPTH - 1)})
    assert decode(encoded) == {"a": nested(MAX_DEPTH - 1)}
    for value in (nested(MAX_DEPTH), nested(100_000), [*nested(MAX_DEPTH), {1}]):
        with pytest.raises(InvalidPropertiesError, match="too deeply") as caught:
            PropertyEncoder()({"a": value})
        assert len(caught.traceback) < 10


def circles() -> Iterator[Any]:
    mapping: dict[str, Any] = {"first": 1}
    mapping["me"] = mapping
    mapping["twice"] = mapping
    yield mapping
    sequence: list[Any] = []
    sequence.append((sequence,))
    yield sequence
    address = Address("s")
    address.more = [address]
    yield address
    product = Product(name="a")
    product.parts.append(product)
    yield product


@pytest.mark.parametrize("circle", list(circles()))
def test_a_value_that_contains_itself_is_refused(circle: Any) -> None:
    with pytest.raises(InvalidPropertiesError):
        PropertyEncoder()({"a": circle})


def test_values_that_are_too_deep_for_the_rest_of_the_stack_are_an_error_of_the_properties() -> None:
    nested: dict[str, Any] = {}
    for _ in range(MAX_DEPTH // 2):
        nested = {"value": nested}

    def encode_deeper_and_deeper() -> bytes:
        encode({"values": (nested,)})
        return encode_deeper_and_deeper()

    with pytest.raises(InvalidPropertiesError, match="nested too deeply"):
        encode_deeper_and_deeper()


def test_many_values_beside_each_other_are_not_deep() -> None:
    lines = [{"sku": "x", "tags": ["a", "b"]}] * 500
    assert written(lines) == lines


def test_properties_over_the_limit_are_refused_with_their_size() -> None:
    encoder = PropertyEncoder(max_bytes=20)
    assert encoder({"a": "x" * 12}) == b'{"a":"xxxxxxxxxxxx"}'
    with pytest.raises(InvalidPropertiesError, match="take 21 bytes as JSON, and 20 are allowed"):
        encoder({"a": "x" * 13})
    with pytest.raises(InvalidPropertiesError, match="65536 are allowed"):
        PropertyEncoder()({"a": "x" * 65536})


class Grumpy:
    def __str__(self) -> str:
        raise KeyError("grumpy")


GrumpyLazyString = type("LazyString", (Grumpy,), {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GrumpyLazyString(), "<LazyString>"),
        ([10**5000], ["<int>"]),
        ({"a": [GrumpyLazyString()]}, {"a": ["<LazyString>"]}),
    ],
    ids=["lazy string", "number", "nested"],
)
def test_a_value_that_cannot_be_read_is_lost_alone(value: Any, expected: Any) -> None:
    assert written(value) == expected


def test_later_changes_of_the_callers_objects_change_nothing() -> None:
    order = Order(1, address=Address("before"))
    properties = {"list": ["before"], "order": order}
    encoded = PropertyEncoder()(properties)
    properties["list"].append("after")  # type: ignore[attr-defined]
    order.address.street = "after"
    del properties["order"]
    assert b"after" not in encoded
    assert encoded.count(b"before") == 2


def test_redacted_names_leave_no_value_wherever_they_stand() -> None:
    encoder = PropertyEncoder(redact=["Street", "password"])
    properties = {"PASSWORD": "secret", "order": Order(1, address=Address("secret")), "amount": Decimal("1.10")}
    assert strictly(encoder(properties)) == {
        "PASSWORD": "[redacted]",
        "order": {"number": 1, "address": {"street": "[redacted]", "more": None}},
        "amount": Decimal("1.10"),
    }


# --- whatever is given -------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "Ll"]))
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Pair.BOTH, Basket])
)
scalars = (
    hashable
    | st.decimals()
    | st.sampled_from([Basket(), LazyString(), Product(name="a"), Line(Decimal("NaN")), {"a"}, bytearray(b"a")])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.frozensets(hashable)
        | st.dictionaries(hashable, inner)
        | st.builds(Address, st.just("s"), more=inner)
        | st.builds(Order, st.just(1), address=inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_json_values_come_back_as_they_were(properties: dict[str, Any]) -> None:
    assert json.loads(PropertyEncoder()(properties)) == properties


@given(st.dictionaries(hashable, anything))
def test_the_output_is_strict_json_whatever_the_input(properties: dict[Any, Any]) -> None:
    encoded = PropertyEncoder()(properties)
    assert isinstance(strictly(encoded), dict)
    # What the lane reads and writes again stays the same.
    assert strictly(encode(decode(encoded))) == strictly(encoded)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_are_exact(value: Decimal) -> None:
    assert written(value) == value
    assert decode(encode({"value": value}))["value"] == value
