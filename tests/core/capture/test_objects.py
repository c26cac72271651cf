"""Rows of databases and models as property values, and values that raise while they are read."""

import collections
import contextlib
import dataclasses
import ipaddress
import sqlite3
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import httpx
import pydantic
import pytest
import sqlmodel
from pydantic import v1
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column, registry, relationship
from werkzeug.local import LocalProxy

from sessionsight.capture.encoding import PropertyEncoder, decode
from sessionsight.errors import InvalidPropertiesError

SECRET = "$argon2$secret"


def sent(value: Any) -> Any:
    """Return the encoded property, and check that there is no warning."""
    found, told = sent_with_warnings(value)
    assert told == []
    return found


def sent_with_warnings(value: Any) -> tuple[Any, list[Any]]:
    told: list[Any] = []
    encoder = PropertyEncoder(
        unknown=lambda kind: told.append(kind.__name__),
        failed=lambda kind, error: told.append((kind.__name__, type(error).__name__)),
    )
    encoded = encoder({"value": value})
    assert SECRET.encode() not in encoded
    return decode(encoded)["value"], told


# --- rows of SQLAlchemy and SQLModel ----------------------------------------------------------------------------------


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    password_hash: Mapped[str] = mapped_column(default=SECRET)
    orders: Mapped[list["Order"]] = relationship(default_factory=list, back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), init=False)
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Plain(DeclarativeBase):
    pass


class Seat(Plain):
    __tablename__ = "seat"
    row: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column("number", primary_key=True)
    holder: Mapped[str] = mapped_column(default=SECRET)


@attrs.define(slots=False)
class Ticket:
    id: int
    code: str = SECRET


tables = registry()
tables.map_imperatively(
    Ticket,
    sqlmodel.Table(
        "ticket",
        tables.metadata,
        sqlmodel.Column("id", sqlmodel.Integer, primary_key=True),
        sqlmodel.Column("code", sqlmodel.String),
    ),
)


class Member(sqlmodel.SQLModel, table=True):
    id: UUID = sqlmodel.Field(default=UUID(int=7), primary_key=True)
    password_hash: str = SECRET


class MemberIn(sqlmodel.SQLModel):
    email: str = "ada@example.com"
    age: int = 36


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    for metadata in (Base.metadata, Plain.metadata, tables.metadata, sqlmodel.SQLModel.metadata):
        metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


ROWS: list[tuple[Any, Any]] = [
    (Customer, 1),
    (lambda: Seat(row=3, place="b", holder=SECRET), [3, "b"]),
    (lambda: Ticket(5), 5),
    (Member, str(UUID(int=7))),
]


@pytest.mark.parametrize(("make", "key"), ROWS, ids=["dataclass", "declarative", "imperative attrs", "sqlmodel"])
@pytest.mark.parametrize("state", ["loaded", "expired", "detached", "detached and expired"])
def test_a_row_is_its_primary_key_in_any_state_without_a_query(
    session: Session, make: Any, key: Any, state: str
) -> None:
    row = make()
    session.add(row)
    session.commit()
    if state in {"loaded", "detached"}:
        session.refresh(row)
    if "detached" in state:
        session.expunge(row)
    queries: list[Any] = []
    event.listen(session.connection().engine, "before_cursor_execute", lambda *query: queries.append(query))
    assert sent(row) == key
    assert sent([row, {"row": row}, (row,)]) == [key, {"row": key}, [key]]
    assert queries == []


def test_a_row_that_is_not_in_the_database_yet_is_the_key_that_it_was_given() -> None:
    assert sent(Member()) == str(UUID(int=7))
    assert sent(Seat(row=3, place="b")) == [3, "b"]
    assert sent(Seat(row=3)) is None
    assert sent(Customer()) is None


def test_a_row_without_its_state_is_named_by_its_type() -> None:
    assert sent_with_warnings(Customer.__new__(Customer)) == ("<Customer>", ["Customer"])


def test_circles_of_rows_are_keys(session: Session) -> None:
    order = Order(customer=Customer())
    session.add(order)
    session.commit()
    assert sent({"order": order, "customer": order.customer, "orders": order.customer.orders}) == {
        "order": 1,
        "customer": 1,
        "orders": [1],
    }


def test_a_result_consists_of_columns_and_is_named_by_its_type(session: Session) -> None:
    session.add(Customer())
    session.commit()
    result = session.execute(select(Customer.id, Customer.password_hash)).one()
    assert sent_with_warnings([result, result._mapping]) == (["<Row>", "<RowMapping>"], ["Row", "RowMapping"])
    assert sent([result.id]) == [1]


def sqlite_row() -> sqlite3.Row:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        row: sqlite3.Row = connection.execute("SELECT 1 AS id, ? AS password", [SECRET]).fetchone()
        return row


@pytest.mark.parametrize(
    "row",
    [
        sqlite_row(),
        type("DictRow", (list,), {"__module__": "psycopg2.extras"})([1, SECRET]),
        type("RealDictRow", (dict,), {"__module__": "psycopg2.extras"})(id=1, password=SECRET),
        type("Record", (tuple,), {"__module__": "databases.backends.common.records"})([1, SECRET]),
    ],
    ids=lambda row: f"{type(row).__module__}.{type(row).__name__}",
)
def test_a_row_of_a_database_driver_is_named_by_its_type(row: Any) -> None:
    name = type(row).__name__
    assert sent_with_warnings({"row": row, "rows": [row]}) == ({"row": f"<{name}>", "rows": [f"<{name}>"]}, [name] * 2)


def test_a_sqlmodel_without_a_table_is_a_model() -> None:
    assert sent(MemberIn()) == {"email": "ada@example.com", "age": 36}


# --- rows inside models -----------------------------------------------------------------------------------------------


class Receipt(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, extra="allow")
    member: Any
    members: list[Any] = []
    total: Decimal = Decimal("4.90")
    hidden: Any = pydantic.Field(default=SECRET, exclude=True)

    @pydantic.computed_field
    def tax(self) -> Decimal:
        return Decimal("0.90")


class Roots(pydantic.RootModel[list[Any]]):
    pass


class OldReceipt(v1.BaseModel):
    member: Any
    total: Decimal = Decimal("4.90")
    hidden: Any = v1.Field(default=SECRET, exclude=True)


@dataclasses.dataclass
class Envelope:
    member: Any


KEY = str(UUID(int=7))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            Receipt(member=Member(), members=[Member()], more=Member()),  # type: ignore[call-arg]
            {"member": KEY, "members": [KEY], "total": Decimal("4.90"), "more": KEY, "tax": Decimal("0.90")},
        ),
        (
            Receipt(member=Receipt(member={"a": (Member(),)}, hidden=Member())),
            {
                "member": {"member": {"a": [KEY]}, "members": [], "total": Decimal("4.90"), "tax": Decimal("0.90")},
                "members": [],
                "total": Decimal("4.90"),
                "tax": Decimal("0.90"),
            },
        ),
        (
            Receipt(member=1, hidden=Member()),
            {"member": 1, "members": [], "total": Decimal("4.90"), "tax": Decimal("0.90")},
        ),
        (Roots([Member()]), [KEY]),
        (Roots([1]), [1]),
        (OldReceipt(member=Member()), {"member": KEY, "total": Decimal("4.90")}),
        (OldReceipt(member=1), {"member": 1, "total": Decimal("4.90")}),
        (Envelope(Member()), {"member": KEY}),
        (Envelope(Receipt(member=Envelope([Member()])).member), {"member": {"member": [KEY]}}),
        (LocalProxy(Member), KEY),
        (LocalProxy(MemberIn), {"email": "ada@example.com", "age": 36}),
    ],
    ids=[
        "model", "nested", "excluded", "root", "plain root", "pydantic 1", "plain pydantic 1", "dataclass", "mixed",
        "proxy", "proxy of a model",
    ],
)  # fmt: skip
def test_a_row_inside_another_object_is_its_primary_key(value: Any, expected: Any) -> None:
    assert sent(value) == expected


def fake_base(package: str, name: str, **members: Any) -> Any:
    """A class as an ORM has it that is not installed here."""
    return type(name, (), {"__module__": f"{package}.somewhere", **members})


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (fake_base("tortoise", "Model", pk=7), 7),
        (fake_base("ormar", "NewBaseModel", pk=7), 7),
        (fake_base("redis_om", "RedisModel", pk="7"), "7"),
        (fake_base("mongoengine", "BaseDocument", pk=7), 7),
        (fake_base("beanie", "Document", id=7), 7),
        (fake_base("odmantic", "Model", code="k", __primary_field__="code"), "k"),
        (fake_base("peewee", "Model", get_id=lambda _: 7), 7),
        (fake_base("pony", "Entity", get_pk=lambda _: (7, 8)), [7, 8]),
    ],
    ids=lambda value: value.__module__ if isinstance(value, type) else "",
)
def test_a_row_of_another_mapper_is_its_primary_key_whatever_else_it_is(base: Any, expected: Any) -> None:
    row = dataclasses.make_dataclass("Row", ["password"], bases=(base,))(SECRET)
    assert sent({"row": row}) == {"row": expected}


@pytest.mark.parametrize(
    "base", [fake_base("piccolo", "Table"), fake_base("mongoengine", "EmbeddedDocument"), fake_base("beanie", "View")]
)
def test_a_row_whose_key_is_not_known_is_named_by_its_type(base: Any) -> None:
    row = dataclasses.make_dataclass("Row", ["password"], bases=(base,))(SECRET)
    assert sent_with_warnings(row) == ("<Row>", ["Row"])


# --- models -----------------------------------------------------------------------------------------------------------


class Link(pydantic.BaseModel):
    url: pydantic.HttpUrl = pydantic.HttpUrl("https://example.com/a")
    ip: pydantic.IPvAnyAddress = ipaddress.IPv4Address("192.0.2.1")
    password: pydantic.SecretStr = pydantic.SecretStr(SECRET)
    key: pydantic.SecretBytes = pydantic.SecretBytes(SECRET.encode())
    size: pydantic.ByteSize = pydantic.ByteSize(5)
    inner: Any = None
    token: str = pydantic.Field(default=SECRET, repr=False)


LINK = {
    "url": "https://example.com/a",
    "ip": "192.0.2.1",
    "password": "**********",
    "key": "**********",
    "size": 5,
    "inner": None,
}


@dataclasses.dataclass
class Login:
    name: str
    token: str = dataclasses.field(default=SECRET, repr=False)
    _pin: str = SECRET


@attrs.define
class Door:
    name: str
    code: str = attrs.field(default=SECRET, repr=False)


@pydantic.dataclasses.dataclass
class Shelf:
    name: str
    owner: str = pydantic.Field(default=SECRET, exclude=True)
    price: str = pydantic.Field(default=SECRET, repr=False)


class Serialized(pydantic.BaseModel):
    """Fields that a model's own serializers hide stay hidden."""

    name: str = "a"
    token: str = SECRET

    @pydantic.field_serializer("token")
    def mask(self, token: str) -> str:
        return token[:3]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Link(), LINK),
        (Link(inner=Link()), {**LINK, "inner": LINK}),
        (Link(inner=[{"login": Login("a")}]), {**LINK, "inner": [{"login": {"name": "a"}}]}),
        (Login("a"), {"name": "a"}),
        (Door("a"), {"name": "a"}),
        (Shelf("a"), {"name": "a"}),
        (Link(inner=Shelf("a")), {**LINK, "inner": {"name": "a"}}),
        (Serialized(), {"name": "a", "token": "$ar"}),
        (pydantic.HttpUrl("https://example.com/a"), "https://example.com/a"),
        (pydantic.SecretStr(SECRET), "**********"),
        (v1.SecretStr(SECRET), "**********"),
        (httpx.URL("https://example.com/a"), "https://example.com/a"),
        (ipaddress.ip_network("192.0.2.0/24"), "192.0.2.0/24"),
    ],
    ids=[
        "model", "nested", "dataclass in a model", "dataclass", "attrs", "pydantic dataclass", "one in a model",
        "serializer", "url", "secret", "old secret", "httpx", "network",
    ],
)  # fmt: skip
def test_hidden_fields_and_secrets_do_not_leave(value: Any, expected: Any) -> None:
    assert sent(value) == expected


# --- values that raise ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class BrokenDataclass:
    other: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "other":
            raise RuntimeError("not now")
        return object.__getattribute__(self, name)


class BrokenModel(pydantic.BaseModel):
    @pydantic.computed_field
    def total(self) -> int:
        raise ZeroDivisionError


class BrokenMapping(collections.UserDict[str, int]):
    def items(self) -> Any:
        raise OSError("the database is gone")


class BrokenText:
    def __str__(self) -> str:
        raise LookupError


BrokenLazyString = type("LazyString", (BrokenText,), {})


class Disguised:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("outside of a request")


@pytest.mark.parametrize(
    ("value", "name", "error"),
    [
        (BrokenDataclass(), "BrokenDataclass", "RuntimeError"),
        (BrokenModel(), "BrokenModel", "ZeroDivisionError"),
        (BrokenMapping(), "BrokenMapping", "OSError"),
        (BrokenLazyString(), "LazyString", "LookupError"),
        (Disguised(), "Disguised", "RuntimeError"),
        (fake_base("django", "Model", pk=property(lambda _: 1 / 0))(), "Model", "ZeroDivisionError"),
        (LocalProxy(BrokenMapping().items), "LocalProxy", "OSError"),
    ],
    ids=["dataclass", "model", "mapping", "lazy string", "disguise", "row", "proxy"],
)  # fmt: skip
def test_a_value_that_raises_is_lost_alone(value: Any, name: str, error: str) -> None:
    found, told = sent_with_warnings({"broken": [value], "order_id": "ord_1"})
    assert found == {"broken": [f"<{name}>"], "order_id": "ord_1"}
    assert told == [(name, error)]


def test_a_number_that_python_does_not_write_is_named_by_its_type() -> None:
    assert sent_with_warnings([10**5000, 10**3000]) == (["<int>", 10**3000], ["int"])


def test_the_values_of_a_mapping_are_a_list_and_a_generator_is_not_consumed() -> None:
    assert sent({"a": 1, "b": 2}.values()) == [1, 2]
    generator = iter([1, 2])
    assert sent_with_warnings(generator) == ("<list_iterator>", ["list_iterator"])
    assert list(generator) == [1, 2]


def test_properties_that_raise_are_a_wrong_call() -> None:
    with pytest.raises(InvalidPropertiesError, match="cannot be read: OSError"):
        PropertyEncoder()(BrokenMapping())


def test_a_circle_through_a_model_is_a_wrong_call() -> None:
    receipt = Receipt(member=1)
    receipt.members.append({"receipt": receipt})
    with pytest.raises(InvalidPropertiesError, match="contain themselves"):
        PropertyEncoder()({"value": receipt})


def test_a_mapping_of_results_may_be_the_properties_themselves(session: Session) -> None:
    session.add(Customer())
    session.commit()
    chosen: Mapping[str, Any] = session.execute(select(Customer.id)).one()._mapping  # type: ignore[assignment]
    assert decode(PropertyEncoder()(chosen)) == {"id": 1}


def test_a_time_of_another_library_is_its_iso_text() -> None:
    class Moment:
        def isoformat(self) -> str:
            return "2026-01-02T03:04:05"

    assert decode(PropertyEncoder()({"at": Moment()})) == {"at": "2026-01-02T03:04:05"}


def test_a_model_may_contain_dataclasses() -> None:
    @dataclasses.dataclass
    class Part:
        number: int

    class Order(pydantic.BaseModel):
        parts: list[Part]

    assert decode(PropertyEncoder()({"order": Order(parts=[Part(1)])})) == {"order": {"parts": [{"number": 1}]}}
