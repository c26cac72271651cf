"""Signatures of the capturing methods, as callers and type checkers see them.

Python raises a `TypeError` for wrong arguments before a method runs, where nothing can log it. The methods therefore
take any arguments, and `bind` sorts out what they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast

from msgspec import UNSET

from sessionsight.capture.receipt import Receipt
from sessionsight.capture.validation import CallOptions, RecordOptions
from sessionsight.errors import CaptureError, InvalidEventError, InvalidGoalError, did_you_mean

if TYPE_CHECKING:
    from types import FunctionType

    from sessionsight.capture.interfaces import CaptureClient
    from sessionsight.capture.records import Amount
    from sessionsight.capture.typed_events import Event

__all__ = [
    "Signature",
    "alias",
    "capture",
    "decrement",
    "forgiving",
    "group",
    "identify",
    "increment",
    "set_person_properties",
    "set_person_properties_once",
    "signature",
    "tag",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Signature(Generic[_Method]):
    """The signature and the docstring of a method that takes any arguments.

    Args:
        declared: A function that has both.
        options: The keywords that its `**options` stand for.
        hint: What to do about an argument that does not exist.
        error: Raised for wrong arguments.
    """

    def __init__(
        self, declared: _Method, options: Iterable[str], hint: str, error: type[CaptureError] = InvalidEventError
    ) -> None:
        function = cast("FunctionType", declared)
        code, defaults = function.__code__, function.__defaults__ or ()
        names = code.co_varnames[1 : code.co_argcount]
        self._declared = declared
        self._method = function.__name__.removeprefix("_")
        self._hint = hint
        self._error = error
        self._names = names
        self._required = len(names) - len(defaults)
        self._defaults = (*[UNSET] * self._required, *defaults)
        self._parameters = tuple(zip(names, self._defaults, strict=True))
        keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        self.options = frozenset({*keywords, *options})
        """Names of the arguments that are given by keyword only."""

    def implements(self, method: Callable[..., Any]) -> _Method:
        """Decorate a method, so that it has this signature and docstring."""
        method.__doc__ = self._declared.__doc__
        method.__wrapped__ = self._declared  # type: ignore[attr-defined]  # `inspect.signature` looks here
        return cast("_Method", method)

    def bind(
        self,
        given: tuple[Any, ...],
        options: dict[str, Any],
        *,
        warn_or_raise: Callable[[CaptureError], None] | None = None,
    ) -> tuple[Any, ...]:
        """Return the values of the parameters that may be given by position.

        Args:
            given: The positional arguments.
            options: The keyword arguments. Those of such parameters are taken out.
            warn_or_raise: Told of what is wrong, in place of an exception; wrong arguments are then left out, and
                missing ones are None.

        Raises:
            CaptureError: An argument is missing, unknown, given twice, or one too many.
        """
        count, names = len(given), self._names
        if self._required <= count <= len(names) and self.options.issuperset(options):
            return given + self._defaults[count:]  # a valid call, as nearly all are
        values = (*given, *[options.pop(name, default) for name, default in self._parameters[count:]])
        missing = any(value is UNSET for value in values[count:])
        if count <= len(names) and not missing and self.options.issuperset(options):
            return values
        error = self._error(self._problems(values, options))
        if warn_or_raise is None:
            raise error
        warn_or_raise(error)
        for name in options.keys() - self.options:
            del options[name]
        return tuple(None if value is UNSET else value for value in values[: len(names)])

    def _problems(self, values: tuple[Any, ...], options: Iterable[str]) -> str:
        names = self._names
        problems = [f"{name} is missing" for name, value in zip(names, values, strict=False) if value is UNSET]
        if len(values) > len(names):
            problems.append(f"takes at most {len(names)} arguments by position, not {len(values)}; {self._hint}")
        for name in options:
            if name in names:
                problems.append(f"{name} is given twice")
            elif name not in self.options:
                known = did_you_mean(name, self.options.union(names))
                problems.append(f"unknown argument {name!r}; {known}; {self._hint}")
        return f"{self._method}(): {'; '.join(problems)}"


def signature(
    *options: Iterable[str], hint: str, error: type[CaptureError] = InvalidEventError
) -> Callable[[_Method], Signature[_Method]]:
    """Make a `Signature` of a function that declares it; a decorator."""

    def make(declared: _Method) -> Signature[_Method]:
        return Signature(declared, [name for names in options for name in names], hint, error)

    return make


def forgiving(hint: str, *, client: Callable[[Any], CaptureClient] | None = None) -> Callable[[_Method], _Method]:
    """Decorate a method, so that outside strict mode it is called without the arguments that are wrong.

    They are logged by the client's `warn_or_raise`. This costs each call a frame, which a capture must not pay.

    Args:
        hint: What to do about an argument that does not exist.
        client: Returns the client of the object that has the method; the object itself by default.
    """

    def decorate(method: _Method) -> _Method:
        signature = Signature(method, (), hint)

        def bind(owner: Any, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
            capture_client: CaptureClient = owner if client is None else client(owner)
            return signature.bind(given, options, warn_or_raise=capture_client.warn_or_raise)

        @wraps(method)
        def call(self: Any, /, *given: Any, **options: Any) -> Any:
            return method(self, *bind(self, given, options), **options)

        @wraps(method)
        async def call_async(self: Any, /, *given: Any, **options: Any) -> Any:
            return await method(self, *bind(self, given, options), **options)

        return cast("_Method", call_async if iscoroutinefunction(method) else call)

    return decorate


_CALL = CallOptions.__optional_keys__
_RECORD = RecordOptions.__optional_keys__


@signature(_CALL, hint="properties go into a mapping")
def capture(  # type: ignore[empty-body]
    self: Any,
    event: str | Event,
    properties: Mapping[str, Any] | None = None,
    *,
    groups: Mapping[str, object] | None = None,
    **options: Unpack[CallOptions],
) -> Receipt:
    """Capture an event.

    Args:
        event: The event's name, or a typed event: one of your own (see `sessionsight.Event`) or a standard one
            such as `CheckoutFinished(...)`.
        properties: Names to values; they are encoded now, so later changes do not count.
        groups: Group type to group key, for Signal.
        **options: See `CallOptions`.

    Example:
        >>> request.analytics.capture("order_processed", {"order_id": "ord_1"})  # doctest: +SKIP
    """


@signature(_RECORD, hint="traits go into a mapping")
def identify(  # type: ignore[empty-body]
    self: Any, user_id: object = None, traits: Mapping[str, Any] | None = None, **options: Unpack[RecordOptions]
) -> Receipt:
    """Set the visitor's user id and traits.

    Earlier records of this request that have no user are completed with this one.

    Args:
        user_id: The app's own id of the user; the signed-in user by default.
        traits: Names to values, such as `name`, `email`, `plan`.
        **options: See `RecordOptions`.
    """


@signature(_CALL, hint="an alias has no properties")
def alias(self: Any, alias: object, **options: Unpack[CallOptions]) -> Receipt:  # type: ignore[empty-body]
    """Link `alias`, an earlier anonymous id, to the current user. Signal only."""


@signature(_CALL, hint="properties go into a mapping")
def group(  # type: ignore[empty-body]
    self: Any,
    group_type: str,
    group_key: object,
    properties: Mapping[str, Any] | None = None,
    **options: Unpack[CallOptions],
) -> Receipt:
    """Put the current user in a group, such as `("company", "acme-1")`, and describe the group. Signal only."""


@signature(_CALL, hint="properties go into a mapping")
def set_person_properties(self: Any, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> Receipt:  # type: ignore[empty-body]
    """Set properties of the current user, over what is there. Signal only."""


@signature(_CALL, hint="properties go into a mapping")
def set_person_properties_once(self: Any, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> Receipt:  # type: ignore[empty-body]
    """Set properties of the current user that are not set yet. Signal only."""


@signature(hint="properties go by keyword, such as plan='pro'")
def tag(self: Any, **properties: Any) -> None:
    """Add these properties to every later event of this request; an event's own go before them."""


@signature(hint="metadata goes into a mapping", error=InvalidGoalError)
def increment(  # type: ignore[empty-body]
    self: Any,
    goal_id: str,
    amount: Amount | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    key: str | None = None,
    destinations: Iterable[str] | None = None,
    on_commit: bool | None = None,
    using: object = None,
    in_transaction: bool | None = None,
) -> Receipt:
    """Count a step towards a goal.

    Args:
        goal_id: The goal's slug; it must exist in SessionSight's dashboard.
        amount: Above zero; 1 by default. For a revenue goal: dollars, not cents.
        metadata: Up to 5 short strings. Values that look like credentials, card or phone
            numbers, addresses and the like are dropped before they leave, as the vendor's SDK does.
        session_id: In place of the request's `ss_sid`.
        key: An idempotency key: a second call with the same goal and key is not counted.
        destinations: Names of the destinations to go to; all that take goals by default.
        on_commit: False counts it whatever becomes of the database transaction around the call.
        using: Has the transaction that it waits for: the alias of a database of Django, or a session of SQLAlchemy.
        in_transaction: True if it must be written by the open transaction; see `CommitOptions`.

    Raises:
        InvalidGoalError: In strict mode, when an argument is wrong. Otherwise that is logged.

    Example:
        >>> request.analytics.goals.increment("monthly-revenue", amount=49)  # doctest: +SKIP
    """


@signature(hint="metadata goes into a mapping", error=InvalidGoalError)
def decrement(  # type: ignore[empty-body]
    self: Any,
    goal_id: str,
    amount: Amount | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    key: str | None = None,
    destinations: Iterable[str] | None = None,
    on_commit: bool | None = None,
    using: object = None,
    in_transaction: bool | None = None,
) -> Receipt:
    """Count a step away from a goal, such as a refund; the amount is above zero here too.

    The arguments and errors are those of `increment`.
    """
