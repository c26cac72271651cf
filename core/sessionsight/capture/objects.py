"""Converts objects to the values that are sent: rows to keys, models to fields, arrays to lists, others to text.

A row of a database is its primary key and nothing else, because its columns may be private and reading them may
cost queries. No library is imported here: types are recognized by their attributes, or by the names of their bases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from math import prod
from operator import attrgetter, methodcaller
from typing import Any

from msgspec import UNSET, Struct

from sessionsight.capture.scalars import packages, to_microseconds
from sessionsight.errors import InvalidPropertiesError

__all__ = ["MAX_DEPTH", "array_values", "field_values", "is_row", "primary_key", "text_of"]

MAX_DEPTH = 100

_MASK = "**********"

# The base classes of rows and documents, and a function that reads their primary key without a query, if there is one.
_ROWS: dict[tuple[str, str], Callable[[Any], Any] | None] = {
    ("django", "Model"): attrgetter("pk"),
    ("django", "Page"): None,  # of a paginator, whose rows are queried when it is read
    ("tortoise", "Model"): attrgetter("pk"),
    ("ormar", "NewBaseModel"): attrgetter("pk"),
    ("redis_om", "RedisModel"): attrgetter("pk"),
    ("aredis_om", "RedisModel"): attrgetter("pk"),
    ("mongoengine", "EmbeddedDocument"): None,
    ("mongoengine", "BaseDocument"): attrgetter("pk"),
    ("beanie", "Document"): attrgetter("id"),
    ("beanie", "View"): None,
    ("odmantic", "EmbeddedModel"): None,
    ("odmantic", "Model"): lambda row: getattr(row, row.__primary_field__),
    ("peewee", "Model"): methodcaller("get_id"),
    ("pony", "Entity"): methodcaller("get_pk"),
    ("piccolo", "Table"): None,
    # Results of SQLAlchemy and of database drivers consist of columns; they have no key.
    ("sqlalchemy", "BaseRow"): None,
    ("sqlite3", "Row"): None,
    ("psycopg2", "DictRow"): None,
    ("psycopg2", "RealDictRow"): None,
    ("asyncpg", "Record"): None,
    ("databases", "Record"): None,
}
# Types that are sent as their text, besides the LazyString of Babel's integrations; None stands for all of a package.
_TEXTS = {
    "collections": {"UserString"},
    "pandas": {"Period", "Interval"},
    "ipaddress": None,
    "django": {"Promise"},
    "yarl": {"URL"},
    "httpx": {"URL"},
    "httpx2": {"URL"},
    "pydantic": None,
    "pydantic_core": None,
    "pydantic_extra_types": None,
}
_ARRAYS = {"numpy", "pandas", "polars", "pyarrow"}


def is_row(kind: type) -> bool:
    """Return whether a class is mapped to a database, or is a result of one."""
    return hasattr(kind, "_sa_class_manager") or any(base in _ROWS for base in _bases(kind))


def primary_key(value: Any) -> Any:
    """Return the primary key of a row that `is_row` recognizes, without a query.

    Returns:
        The key, a list for several columns, None for a row that has none yet, or `msgspec.UNSET` if the mapper
        does not provide it.
    """
    kind = value.__class__
    if hasattr(kind, "_sa_class_manager"):
        return _sqlalchemy_key(vars(value))
    read = next(_ROWS[base] for base in _bases(kind) if base in _ROWS)
    return UNSET if read is None else read(value)


def _bases(kind: type) -> Iterable[tuple[str, str]]:
    return zip(packages(kind), (base.__name__ for base in kind.__mro__), strict=True)


def _sqlalchemy_key(attributes: dict[str, Any]) -> Any:
    """Return the key of the row state, which detached and expired rows keep, or of the attributes before a flush."""
    state = attributes.get("_sa_instance_state")
    if state is None:
        return UNSET
    key = state.identity
    if key is None:
        mapper = state.mapper
        key = [attributes.get(mapper.get_property_by_column(column).key) for column in mapper.primary_key]
        if None in key:
            return None
    return key[0] if len(key) == 1 else list(key)


def field_values(value: Any) -> Any:
    """Return the fields of a dataclass, an attrs, msgspec or Pydantic object by name, as far as they are set.

    Left out are fields whose names begin with an underscore, those that their class keeps out of its `repr`, and
    those that Pydantic excludes.

    Returns:
        A dict, or what the model's own serializer makes of it; `msgspec.UNSET` for any other object.
    """
    kind = value.__class__
    if _is_pydantic(kind):
        return _dump(value, kind)
    if isinstance(value, Struct):
        names = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
    elif _is_dataclass(kind):
        names = {field.name: field.name for field in _dataclass_fields(kind)}
    else:
        return UNSET
    hidden = _hidden(kind)
    found = {alias: getattr(value, name, UNSET) for name, alias in names.items() if name not in hidden}
    return {alias: item for alias, item in found.items() if item is not UNSET}


def _is_dataclass(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")


def _dataclass_fields(kind: Any) -> Iterable[Any]:
    return getattr(kind, "__attrs_attrs__", None) or dataclasses.fields(kind)


def _is_pydantic(kind: type) -> bool:
    """Return whether the type is a model of Pydantic 2 or 1."""
    if hasattr(kind, "__pydantic_core_schema__"):
        return hasattr(kind, "model_dump")
    return hasattr(kind, "__fields__") and hasattr(kind, "dict") and "pydantic" in packages(kind)


def _pydantic_fields(kind: Any) -> Mapping[str, Any]:
    if hasattr(kind, "__pydantic_core_schema__"):
        fields: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
        return fields
    return {name: field.field_info for name, field in kind.__fields__.items()}


def _excluded(kind: type) -> set[str]:
    return {name for name, field in _pydantic_fields(kind).items() if field.exclude is True}


def _hidden(kind: type) -> set[str]:
    """Return the names of fields that are not sent, although the serializer of an outer model would write them."""
    if _is_pydantic(kind):
        return {name for name, field in _pydantic_fields(kind).items() if not getattr(field, "repr", True)}
    if not _is_dataclass(kind):
        return {name for name in getattr(kind, "__struct_fields__", ()) if name.startswith("_")}
    hidden = {field.name for field in _dataclass_fields(kind) if not field.repr or field.name.startswith("_")}
    return hidden | _excluded(kind) if hasattr(kind, "__pydantic_core_schema__") else hidden


def _dump(model: Any, kind: Any) -> Any:
    """Return a model as its own serializer writes it, except for fields that contain rows or hidden fields."""
    hidden = _hidden(kind)
    attributes = {**vars(model), **(getattr(model, "__pydantic_extra__", None) or {})}
    skipped = hidden | _excluded(kind)
    ours = {name for name, item in attributes.items() if name not in skipped and _holds_private(item, MAX_DEPTH)}
    if ours and getattr(kind, "__pydantic_root_model__", False):
        return model.root
    dump = partial(model.model_dump, warnings=False) if hasattr(kind, "__pydantic_core_schema__") else model.dict
    dumped = dump(exclude=hidden | ours or None)
    if not ours:
        return dumped
    return {name: attributes[name] for name in attributes if name in ours or name in dumped} | dumped


def _holds_private(value: Any, depth: int) -> bool:
    """Return whether the value contains a row or an object with hidden fields."""
    if depth < 0:
        raise InvalidPropertiesError("the properties contain themselves, or are nested too deeply")
    kind = value.__class__
    if kind in _SIMPLE:
        return False
    if is_row(kind) or _hidden(kind):
        return True
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, list | tuple | AbstractSet):
        items = value
    elif _is_pydantic(kind):
        items = vars(value).values()
    elif _is_dataclass(kind):
        items = [getattr(value, field.name, None) for field in _dataclass_fields(kind)]
    return any(_holds_private(item, depth - 1) for item in items)


def array_values(value: Any, max_items: int) -> Any:
    """Return an array, series or index as a list, a series with text labels as a mapping, a frame as a list of rows.

    Args:
        value: Any object; numpy, pandas, polars and pyarrow are known.
        max_items: The largest number of elements that are read.

    Returns:
        The values, or `msgspec.UNSET` for anything else and for more elements than that.
    """
    kind = type(value)
    if _ARRAYS.isdisjoint(packages(kind)) or not hasattr(kind, "__len__"):
        return UNSET
    shape = getattr(value, "shape", None)
    if (prod(shape) if shape is not None else len(value)) > max_items:
        return UNSET
    for name in ("to_pylist", "to_dicts", "tolist", "to_list"):
        if hasattr(kind, name):
            values = getattr(to_microseconds(value), name)()
            labels: Any = getattr(value, "index", None)
            return dict(zip(labels, values, strict=True)) if _is_text_index(labels) else values
    return value.to_dict("records") if hasattr(kind, "iterrows") else UNSET


def _is_text_index(labels: object) -> bool:
    return getattr(labels, "inferred_type", None) == "string"


def text_of(value: Any) -> Any:
    """Return the text of an object that stands for one: a URL, an address, a lazy string, a time of another library.

    Returns:
        The text, that of a secret masked; `msgspec.UNSET` for anything else.
    """
    kind = type(value)
    if hasattr(kind, "get_secret_value"):
        return _MASK
    if hasattr(kind, "isoformat"):
        return value.isoformat()
    for package, name in _bases(kind):
        names = _TEXTS.get(package, ())
        if names is None or name in names or name == "LazyString":
            return str(value)
    return UNSET


_SIMPLE = frozenset({str, int, float, bool, type(None), bytes})
