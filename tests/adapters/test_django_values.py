"""Conversion of frameworks' own values to properties."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any
from uuid import UUID

import pydantic
import pytest

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Page, Paginator
from django.db import models
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, ngettext_lazy

from sessionsight.capture.encoding import PropertyEncoder, decode

ORDER = UUID("0b54ad6e-95f8-4d9c-8a51-2f2bd67a9a0c")


class Order(models.Model):
    id: Any = models.UUIDField(primary_key=True)
    buyer: Any = models.ForeignKey(User, models.CASCADE)
    note: Any = models.TextField()

    class Meta:
        app_label = "values_under_test"

    def __str__(self) -> str:
        return str(self.note)


class Size(models.TextChoices):
    SMALL = "s", "Small"


class Receipt(pydantic.BaseModel):
    buyer: Any


@dataclasses.dataclass
class Parcel:
    buyer: Any


class Line(pydantic.BaseModel):
    order: UUID
    took: dt.timedelta
    note: str | None = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (User(pk=7, username="ada"), 7),
        (User(username="unsaved"), None),
        (Order(id=ORDER, note="private"), str(ORDER)),
        (SimpleLazyObject(lambda: User(pk=7)), 7),
        (Receipt(buyer=User(pk=7)), {"buyer": 7}),
        (Parcel(User(pk=7)), {"buyer": 7}),
        ([User(pk=1), User(pk=2)], [1, 2]),
        ({"user": User(pk=1)}, {"user": 1}),
        (Size.SMALL, "s"),
        (gettext_lazy("Monday"), "Monday"),
        (ngettext_lazy("%d order", "%d orders", 2) % 2, "2 orders"),
        (mark_safe("<b>"), "<b>"),
        (dt.timedelta(hours=1, minutes=30), "PT5400S"),
        (Line(order=ORDER, took=dt.timedelta(0)), {"order": str(ORDER), "took": "P0D", "note": None}),
    ],
    ids=str,
)
def test_a_value_of_the_framework_becomes_what_one_would_expect(value: Any, expected: Any) -> None:
    told: list[type] = []
    assert decode(PropertyEncoder(unknown=told.append)({"value": value})) == {"value": expected}
    assert told == []


def test_a_page_of_a_paginator_is_not_queried() -> None:
    told: list[type] = []
    page = Page(User.objects.all(), 1, Paginator([], 10))
    assert decode(PropertyEncoder(unknown=told.append)({"page": page})) == {"page": "<Page>"}
    assert told == [Page]


def test_a_user_who_may_not_be_loaded_here_is_lost_alone() -> None:
    def load() -> User:
        raise SynchronousOnlyOperation

    lost: list[tuple[type, Exception]] = []
    encoder = PropertyEncoder(failed=lambda kind, error: lost.append((kind, error)))
    assert decode(encoder({"user": SimpleLazyObject(load), "order": 5})) == {"user": "<SimpleLazyObject>", "order": 5}
    assert [(kind, type(error)) for kind, error in lost] == [(SimpleLazyObject, SynchronousOnlyOperation)]


def test_a_models_fields_are_not_read() -> None:
    class Guarded(User):
        class Meta:
            app_label = "values_under_test"
            proxy = True

        def __getattribute__(self, name: str) -> Any:
            assert name not in {"username", "email", "password"}
            return super().__getattribute__(name)

    assert PropertyEncoder()({"user": Guarded(pk=3)}) == b'{"user":3}'


@pytest.mark.parametrize(
    "value", [User.objects.all(), User.objects, AnonymousUser()], ids=["query", "manager", "nobody"]
)
def test_what_has_no_primary_key_is_named_by_its_type_and_read_no_further(value: Any) -> None:
    told: list[type] = []
    encoded = decode(PropertyEncoder(unknown=told.append)({"value": value}))
    assert encoded == {"value": f"<{type(value).__name__}>"}
    assert told == [type(value)]
