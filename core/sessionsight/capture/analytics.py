"""`request.analytics`: captures events, people and goals. A capture checks, encodes, appends and returns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Literal, Self, cast

from msgspec import UNSET, Struct

from sessionsight.capture import signatures
from sessionsight.capture.encoding import decode
from sessionsight.capture.feedback import Feedback
from sessionsight.capture.flags import Flags
from sessionsight.capture.interfaces import CaptureClient
from sessionsight.capture.receipt import Receipt
from sessionsight.capture.records import (
    Alias,
    DropReason,
    EventRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    check_goal,
    random_bytes,
)
from sessionsight.capture.scope import RequestScope
from sessionsight.capture.signatures import Signature
from sessionsight.capture.standard_events import StandardEvent
from sessionsight.capture.typed_events import Event
from sessionsight.capture.validation import (
    merge_properties,
    plain_str,
    validate_anonymous_id,
    validate_commit_options,
    validate_destinations,
    validate_event_name,
    validate_group,
    validate_groups,
    validate_id,
    validate_key,
)
from sessionsight.errors import CaptureError, InvalidEventError, InvalidPropertiesError, describe
from sessionsight.javascript import nonfinite_as_text
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["Analytics", "Goals"]

_forgiving = partial(signatures.forgiving, client=attrgetter("_scope._client"))
_CAPTURE_OPTIONS = signatures.capture.options
_GOAL_OPTIONS = signatures.increment.options | {"amount"}


@signatures.signature(hint="names of destinations go by position")
def _only(self: Any, *destinations: str) -> Analytics:  # type: ignore[empty-body]
    """Send later records to these destinations only, unless a call has `destinations=`.

    It overrides the `choose_destinations` setting. An unknown name is an invalid call; only the known names of such a
    list are used.

    Args:
        *destinations: Names of one or more lanes.

    Returns:
        These analytics, for chaining.

    Example:
        >>> client.analytics.only("signal_eu").capture("report_exported")  # doctest: +SKIP
    """


class Analytics(Struct, eq=False, weakref=True):
    """Captures events, people and goals under one tracking context.

    A middleware makes one for each request; `client.bind` and `for_request` make one for code that runs elsewhere,
    which submits each record at once.

    Every capturing method takes the keywords of `CallOptions`. A wrong call raises a `CaptureError`
    in strict mode; otherwise it is logged with the caller's line, counted, and changes nothing.
    """

    _scope: RequestScope  # a struct, because it takes less time to create, and each request has one

    @classmethod
    def _for_context(
        cls,
        client: CaptureClient,
        context: TrackingContext = EMPTY_CONTEXT,
        *,
        drop: DropReason | None = None,
        selected: frozenset[str] | DropReason | None = None,
        user_id: object = None,
        distinct_id: object = None,
        anonymous_id: object = None,
    ) -> Self:
        """Return analytics under a given context, which submit each record at once."""
        scope = RequestScope(client)
        scope._context = context
        scope._ended = True
        scope._drop = DropReason.CONSENT if drop is None and context.opted_out else drop
        scope._selected = selected
        try:
            scope._user_id = validate_id(user_id, "user_id")
            scope._distinct_id = validate_id(distinct_id, "distinct_id")
            scope._anonymous_id = validate_anonymous_id(anonymous_id)
        except CaptureError as error:
            client.warn_or_raise(error)
        return cls(scope)

    # Requests are copied and pickled, by proxy middlewares and test clients for instance. The copy belongs to the
    # same client and ends with the same response; a pickle contains neither the request nor pending records.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @property
    def context(self) -> TrackingContext:
        """The tracking context as it is known now: the ids, the user and the page."""
        return self._scope.context

    @property
    def goals(self) -> Goals:
        """Goals of this request: `goals.increment` and `goals.decrement`."""
        return Goals(self)

    @property
    def flags(self) -> Flags:
        """Feature flags for this request's visitor: `flags.get`, and `await flags.aget` in async code."""
        return Flags(self._scope)

    @property
    def feedback(self) -> Feedback:
        """Feedback of this request's visitor: `feedback.submit`."""
        return Feedback(self._scope)

    @signatures.capture.implements
    def capture(
        self,
        event: Any = UNSET,
        properties: Any = None,
        /,
        *more: Any,
        groups: Any = None,
        user_id: Any = None,
        **options: Any,
    ) -> Receipt:
        scope = self._scope
        try:
            # Most calls need no sorting of arguments, which would cost them a tenth of their time.
            if options and properties is None and event is not UNSET:
                properties = options.pop("properties", None)
            if more or event is UNSET or (options and not _CAPTURE_OPTIONS.issuperset(options)):
                given = (event, properties, *more) if more or properties is not None else (event,)
                event, properties = signatures.capture.bind(() if event is UNSET else given, options)
            standard = False
            if isinstance(event, Event):
                standard = isinstance(event, StandardEvent)
                errors = event.validation_errors()
                if errors and not standard:
                    raise InvalidEventError("; ".join(errors))
                for error in errors:
                    scope._client.warn_or_raise(InvalidEventError(error))
                properties = merge_properties(event.properties(), properties)
                name = event.event_name
            else:
                name = event if type(event) is str and event.strip() else validate_event_name(event)
            if scope._tags:
                properties = merge_properties(scope._tags, properties)
            encoded = scope._client.encode_event(properties)
            grouped = validate_groups(groups) if groups else None
            if options:
                fields = scope._record_fields({**options, "user_id": user_id})
                return scope._add(
                    EventRecord(name=name, properties=encoded, groups=grouped, standard=standard, **fields), options
                )
            # The same without a dict of fields, which would take half the time of the calls that come here: most.
            given_user = None if user_id is None else validate_id(user_id, "user_id")
            return scope._add(
                EventRecord(
                    name=name,
                    properties=encoded,
                    groups=grouped,
                    standard=standard,
                    random=random_bytes(),
                    time=time.time(),
                    user_id=scope._current_user() if given_user is None else given_user,
                    distinct_id=scope._distinct_id,
                    anonymous_id=scope._anonymous_id,
                    destinations=scope._only,
                )
            )
        except Exception as error:
            return scope._refuse(error)

    @signatures.identify.implements
    def identify(self, /, *given: Any, **options: Any) -> Receipt:
        scope = self._scope
        try:
            user_id, traits = signatures.identify.bind(given, options)
            user = validate_id(user_id, "user_id")
            encoded = scope._client.encoder(traits)
            record = Identify(properties=encoded, **scope._record_fields({**options, "user_id": user}))
            scope._user_id = user or scope._user_id
            return scope._add(record, options)
        except Exception as error:
            return scope._refuse(error)

    @signatures.alias.implements
    def alias(self, /, *given: Any, **options: Any) -> Receipt:
        scope = self._scope
        try:
            [alias] = signatures.alias.bind(given, options)
            earlier = validate_id(alias, "alias")
            if earlier is None:
                raise InvalidEventError(f"alias must be the earlier id of the person, not {describe(alias)}")
            return scope._add(Alias(alias=earlier, **scope._record_fields(options)), options)
        except Exception as error:
            return scope._refuse(error)

    @signatures.group.implements
    def group(self, /, *given: Any, **options: Any) -> Receipt:
        scope = self._scope
        try:
            group_type, group_key, properties = signatures.group.bind(given, options)
            kind, key = validate_group(group_type, group_key)
            encoded = scope._client.encoder(properties)
            fields = scope._record_fields(options)
            return scope._add(Group(group_type=kind, group_key=key, properties=encoded, **fields), options)
        except Exception as error:
            return scope._refuse(error)

    @signatures.set_person_properties.implements
    def set_person_properties(self, /, *given: Any, **options: Any) -> Receipt:
        return self._set_person_properties(signatures.set_person_properties, given, options, once=False)

    @signatures.set_person_properties_once.implements
    def set_person_properties_once(self, /, *given: Any, **options: Any) -> Receipt:
        return self._set_person_properties(signatures.set_person_properties_once, given, options, once=True)

    @signatures.tag.implements
    def tag(self, /, *given: Any, **properties: Any) -> None:
        scope = self._scope
        try:
            signatures.tag.bind(given, {})
            scope._tags = {**(scope._tags or {}), **properties}
        except Exception as error:
            scope._client.handle_error(error)

    @_forgiving("it takes seconds and nothing else")
    def flush(self, timeout: float | None = None) -> bool:
        """Submit what has been captured, and wait until all of the client's records are delivered.

        Args:
            timeout: Seconds to wait at most; the `flush_timeout` setting by default.

        Returns:
            True if everything was delivered.
        """
        self._scope.submit_now()
        return self._scope._client.flush(timeout)

    @_forgiving("it takes seconds and nothing else")
    async def aflush(self, timeout: float | None = None) -> bool:
        """As `flush`, without blocking the event loop."""
        self._scope.submit_now()
        return await self._scope._client.aflush(timeout)

    @_forgiving("everything that is not submitted yet is discarded")
    def discard(self) -> None:
        """Discard what has been captured and is not submitted yet; it is counted as discarded."""
        self._scope._discard()

    @_only.implements
    def only(self, /, *destinations: Any, **options: Any) -> Analytics:
        scope = self._scope
        known = scope._client.destination_names
        try:
            scope._only = frozenset(known.intersection(name for name in destinations if isinstance(name, str)))
            _only.bind((), options)
            if not destinations:
                raise InvalidEventError("only() needs the name of a destination")
            scope._only = validate_destinations(destinations, known)
        except Exception as error:
            scope._client.handle_error(error)
        return self

    def _set_person_properties(
        self, signature: Signature[Any], given: tuple[Any, ...], options: dict[str, Any], *, once: bool
    ) -> Receipt:
        scope = self._scope
        try:
            [properties] = signature.bind(given, options)
            encoded = scope._client.encoder(properties)
            return scope._add(PersonProperties(properties=encoded, once=once, **scope._record_fields(options)), options)
        except Exception as error:
            return scope._refuse(error)

    def _encodable_tags(self) -> dict[str, Any] | None:
        """Return the tags as they are sent, because their values may not be picklable."""
        scope = self._scope
        if not scope._tags:
            return None
        try:
            return cast("dict[str, Any]", decode(scope._client.encoder(scope._tags)))
        except Exception as error:
            scope._client.handle_error(error)
            return None


class Goals:
    """The goals of one request, as in SessionSight's own SDK; `request.analytics.goals`."""

    __slots__ = ("_analytics",)

    def __init__(self, analytics: Analytics) -> None:
        self._analytics = analytics

    def __reduce__(self) -> tuple[Any, ...]:
        return Goals, (self._analytics,)

    @signatures.increment.implements
    def increment(self, /, *given: Any, **options: Any) -> Receipt:
        return self._count("increment", given, options)

    @signatures.decrement.implements
    def decrement(self, /, *given: Any, **options: Any) -> Receipt:
        return self._count("decrement", given, options)

    def _count(
        self, direction: Literal["increment", "decrement"], given: tuple[Any, ...], options: dict[str, Any]
    ) -> Receipt:
        scope = self._analytics._scope
        try:
            get = options.get
            if len(given) == 1 and _GOAL_OPTIONS.issuperset(options):  # as in most calls
                goal_id, amount = given[0], get("amount")
            else:
                goal_id, amount = getattr(signatures, direction).bind(given, options)
            session_id, destinations = get("session_id"), get("destinations")
            amount = check_goal(goal_id, amount, session_id)
            validate_commit_options(options)
            client = scope._client
            return scope._add(
                Goal(
                    goal_id=plain_str(goal_id),
                    direction=direction,
                    amount=amount,
                    session_id=plain_str(session_id) if session_id else None,
                    properties=_encode_metadata(get("metadata"), client),
                    random=random_bytes(),
                    time=time.time(),
                    key=validate_key(get("key")),
                    destinations=scope._only
                    if destinations is None
                    else validate_destinations(destinations, client.destination_names),
                ),
                options,
            )
        except Exception as error:
            return scope._refuse(error)


def _encode_metadata(metadata: object, client: CaptureClient) -> bytes:
    """Encode a goal's metadata; like the vendor's SDK, leave out what is not an object and send the goal."""
    if metadata is None:
        return b"{}"
    if not isinstance(metadata, Mapping):
        client.warn_or_raise(
            InvalidPropertiesError(f"metadata must be a mapping of names to values, not {describe(metadata)}")
        )
        return b"{}"
    # Its numbers become strings on the wire, and JSON has none for these.
    return client.encoder({name: nonfinite_as_text(value) for name, value in metadata.items()})
