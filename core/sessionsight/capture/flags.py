"""`request.analytics.flags`: SessionSight's feature flags, evaluated for the visitor of a request when code asks.

This is the only part of capturing that waits for a vendor, and only for as long as the destination's `flags_timeout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

from sessionsight.capture.encoding import decode
from sessionsight.capture.interfaces import FlagCall, FlagDefinition, FlagValue
from sessionsight.capture.records import DropReason
from sessionsight.capture.signatures import forgiving, signature
from sessionsight.capture.validation import validate_text
from sessionsight.errors import CaptureError, InvalidEventError, InvalidPropertiesError, describe
from sessionsight.event_loop import on_event_loop

if TYPE_CHECKING:
    from sessionsight.capture.scope import RequestScope

__all__ = ["Flags"]

_forgiving = forgiving("attributes of the visitor go to target()", client=attrgetter("_scope._client"))


@signature(hint="attributes go by keyword, such as plan='pro'")
def _target(self: Any, **attributes: Any) -> Flags:  # type: ignore[empty-body]
    """Set attributes of the visitor that the targeting rules refer to; later flags are evaluated with them.

    They are sent under these names to SessionSight. The visitor, the session and the user are sent without being set
    here; `visitorId`, `sessionId` and `userId` override them.

    Args:
        **attributes: Strings, numbers and booleans. Do not use e-mail addresses or other personal data.

    Returns:
        These flags, for chaining.

    Raises:
        InvalidPropertiesError: In strict mode, a value is of another type. Otherwise that is logged, and no attribute
            of the call is set.

    Example:
        >>> request.analytics.flags.target(plan="pro").get("new-checkout")  # doctest: +SKIP
    """


class Flags:
    """Feature flags for the visitor of one request, as in SessionSight's own SDK.

    The first call asks the vendor for all flags of the visitor, and the rest of the request uses the answer. Where
    there is none, because the vendor is down, slow or not configured, or because the visitor has refused consent, each
    flag has the default of the call.

    In async code use `aget`, `aall` and `alist`. The others return what `aget` or `aall` have received already, and
    otherwise the default, because they would block the event loop.

    Source: https://github.com/SessionSight/sdks (flags/src).
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: RequestScope) -> None:
        self._scope = scope

    @overload
    def get(self, key: str, default: bool = False) -> bool: ...  # noqa: FBT001, FBT002  # as `dict.get`
    @overload
    def get(self, key: str, default: str) -> str: ...
    @_forgiving
    def get(self, key: str, default: FlagValue = False) -> FlagValue:  # noqa: FBT002  # as `dict.get`
        """Return the value of a flag.

        Args:
            key: The flag's key in SessionSight's dashboard.
            default: The value if the vendor gives none, or one of another type; its type is the type of the flag.

        Raises:
            InvalidEventError: In strict mode, an argument is wrong, or an event loop runs on this thread and the flags
                are not known yet. Otherwise that is logged, and the default is returned.

        Example:
            >>> request.analytics.flags.get("new-checkout", default=False)  # doctest: +SKIP
        """
        return self._pick(self.all(), key, default)

    @overload
    async def aget(self, key: str, default: bool = False) -> bool: ...  # noqa: FBT001, FBT002  # as `dict.get`
    @overload
    async def aget(self, key: str, default: str) -> str: ...
    @_forgiving
    async def aget(self, key: str, default: FlagValue = False) -> FlagValue:  # noqa: FBT002  # as `dict.get`
        """As `get`, without blocking the event loop."""
        return self._pick(await self.aall(), key, default)

    @_forgiving
    def all(self) -> dict[str, FlagValue]:
        """Return the values of all flags that are enabled for the visitor, by key; empty without an answer."""
        call = self._evaluate(blocking=True)
        return {} if call is None else dict(call.wait())

    @_forgiving
    async def aall(self) -> dict[str, FlagValue]:
        """As `all`, without blocking the event loop."""
        call = self._evaluate(blocking=False)
        return {} if call is None else dict(await call.wait_async())

    @_forgiving
    def list(self) -> Sequence[FlagDefinition]:
        """Ask the vendor for the definitions of the property's flags; empty without an answer.

        It is the same for all visitors, and not kept for the rest of the request.
        """
        call = self._list(blocking=True)
        return () if call is None else call.wait()

    @_forgiving
    async def alist(self) -> Sequence[FlagDefinition]:
        """As `list`, without blocking the event loop."""
        call = self._list(blocking=False)
        return () if call is None else await call.wait_async()

    @_target.implements
    def target(self, /, *given: Any, **attributes: Any) -> Flags:
        scope = self._scope
        try:
            _target.bind(given, {})
            plain = decode(scope._client.encoder(attributes))
            for name, value in plain.items():
                if not isinstance(value, str | int | float | Decimal | None):
                    raise InvalidPropertiesError(
                        f"{name} must be a string, a number or a boolean, not {describe(value)}"
                    )
            scope._flag_attributes = {**scope._flag_attributes, **plain}
            vars(scope).pop("_flags", None)
        except Exception as error:
            self._report(error)
        return self

    def _evaluate(self, *, blocking: bool) -> FlagCall[Mapping[str, FlagValue]] | None:
        """Return the call of this request, which the first one to need it starts; None if nobody may be asked."""
        scope = self._scope
        try:
            call = scope._flags
            if blocking and (call is None or not call.done):
                _check_may_block()
            if call is None:
                context, drop = scope.resolve()
                names = self._destinations()
                if drop is not None or isinstance(names, DropReason):
                    return None
                scope._flags = call = scope._client.flag_source.evaluate(context, scope._flag_attributes, names)
        except Exception as error:
            self._report(error)
            return None
        return call

    def _list(self, *, blocking: bool) -> FlagCall[tuple[FlagDefinition, ...]] | None:
        try:
            if blocking:
                _check_may_block()
            client, (_, drop) = self._scope._client, self._scope.resolve()
            names = self._destinations()
            if names is None and drop is not None and client.policy.selects_destinations:
                return None  # which of them is unknown, because dropped records need no selection
            return None if isinstance(names, DropReason) else client.flag_source.list_definitions(names)
        except Exception as error:
            self._report(error)
            return None

    def _destinations(self) -> frozenset[str] | DropReason | None:
        """Return the names of the destinations that may be asked; None means all. Known once the scope is resolved."""
        scope = self._scope
        return scope._selected if scope._only is None else scope._only

    def _pick(self, values: Mapping[str, FlagValue], key: str, default: FlagValue) -> FlagValue:
        client = self._scope._client
        try:
            value = values.get(validate_text(key, "a flag's key"), default)
            if not isinstance(default, bool | str):
                raise InvalidEventError(f"flag {key!r}: default must be a boolean or a string, not {describe(default)}")
        except Exception as error:
            self._report(error)
            return default
        if isinstance(value, str) == isinstance(default, str):
            return value
        client.warn(
            f"flag {key!r} is {describe(value)}, and the default of the call {describe(default)}: the default is used, "
            "because its type must be that of the flag",
            key=f"flag:{key}",
        )
        return default

    def _report(self, error: Exception) -> None:
        client = self._scope._client
        if isinstance(error, CaptureError):
            client.warn_or_raise(error)
        else:
            client.handle_error(error)


def _check_may_block() -> None:
    if on_event_loop():
        raise InvalidEventError(
            "flags.get(), all() and list() would block the event loop: use await with aget(), aall() and alist()"
        )
