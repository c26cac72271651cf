"""`request.analytics`: captures events, people and goals. A capture checks, encodes, appends and returns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, Unpack, cast

from sessionsight.arguments import (
    CallOptions,
    CommitOptions,
    RecordOptions,
    as_anonymous_id,
    as_destinations,
    as_group,
    as_groups,
    as_id,
    as_key,
    as_text,
    check_commit,
    exact,
    laid_over,
)
from sessionsight.collector import Collector
from sessionsight.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.encode import decode
from sessionsight.entropy import entropy
from sessionsight.errors import CaptureError, InvalidEventError, InvalidPropertiesError, shown
from sessionsight.gathering import Gathering
from sessionsight.goals import Goals
from sessionsight.javascript import nonfinite_as_text
from sessionsight.records import (
    Alias,
    Amount,
    DropReason,
    Event,
    Goal,
    Group,
    Identify,
    PersonProperties,
    check_goal,
)
from sessionsight.standard import StandardEvent
from sessionsight.typed_events import Event as TypedEvent

__all__ = ["Analytics"]


class Analytics(Gathering):
    """Captures events, people and goals under one tracking context.

    An adapter makes one for each request; `client.bind` and `for_request` make one for code that
    runs elsewhere, which hands over each record at once.

    Every capturing method takes the keywords of `CallOptions`. A wrong call raises a `CaptureError`
    in strict mode; otherwise it is logged with the caller's line, counted, and changes nothing.
    """

    @classmethod
    def bound(
        cls,
        collector: Collector,
        context: TrackingContext = EMPTY_CONTEXT,
        *,
        drop: DropReason | None = None,
        choice: frozenset[str] | DropReason | None = None,
        user_id: object = None,
        distinct_id: object = None,
        anonymous_id: object = None,
    ) -> Analytics:
        """Analytics under a given context, which hand over each record at once."""
        analytics = cls(collector)
        analytics._context = context
        analytics._ended = True
        analytics._drop = drop
        analytics._choice = choice
        try:
            analytics._user_id = as_id(user_id, "user_id")
            analytics._distinct_id = as_id(distinct_id, "distinct_id")
            analytics._anonymous_id = as_anonymous_id(anonymous_id)
        except CaptureError as error:
            collector.object_to(error)
        return analytics

    # Requests are copied and pickled, by proxy middlewares and test clients for instance. The copy is served by the
    # same client and ends with the same response; a pickle leaves the request, and what waits for its end, behind.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from sessionsight.pickling import restore  # above this module

        context, drop = self._batch([]).settle()
        state = {
            "_context": context,
            "_drop": drop,
            "_choice": self._choice,
            "_only": self._only,
            "_distinct_id": self._distinct_id,
            "_anonymous_id": self._anonymous_id,
            "_tags": self._plain_tags(),
        }
        return restore, (state,)

    @property
    def goals(self) -> Goals:
        """Goals of this request: `goals.increment` and `goals.decrement`."""
        return Goals(self)

    def capture(
        self,
        event: str | TypedEvent,
        properties: Mapping[str, Any] | None = None,
        *,
        groups: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
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
        try:
            standard = False
            if isinstance(event, TypedEvent):
                standard = isinstance(event, StandardEvent)
                problems = event.problems()
                if problems and not standard:
                    raise InvalidEventError("; ".join(problems))
                for problem in problems:
                    self._collector.object_to(InvalidEventError(problem))
                properties = laid_over(event.properties(), properties)
                name = event.event_name
            else:
                name = event if type(event) is str and event.strip() else as_text(event, "an event's name")
            if self._tags:
                properties = laid_over(self._tags, properties)
            encoded = self._collector.encoder(properties)
            grouped = as_groups(groups) if groups else None
            if options:
                common = self._common(options)
                self._add(Event(name=name, properties=encoded, groups=grouped, standard=standard, **common), options)
                return
            # The same, spelled out: most calls come here, and half of their time would go into the dict.
            self._add(
                Event(
                    name=name,
                    properties=encoded,
                    groups=grouped,
                    standard=standard,
                    entropy=entropy(),
                    time=time.time(),
                    user_id=self._user_now(),
                    distinct_id=self._distinct_id,
                    anonymous_id=self._anonymous_id,
                    destinations=self._only,
                )
            )
        except Exception as error:
            self._collector.reject(error)

    def identify(
        self, user_id: object = None, traits: Mapping[str, Any] | None = None, **options: Unpack[RecordOptions]
    ) -> None:
        """Say who the visitor is, and what is known of them.

        Earlier records of this request that have no user are completed with this one.

        Args:
            user_id: The app's own id of the user; the signed-in user by default.
            traits: Names to values, such as `name`, `email`, `plan`.
            **options: See `RecordOptions`.
        """
        try:
            user = as_id(user_id, "user_id")
            record = Identify(properties=self._collector.encoder(traits), **self._common({**options, "user_id": user}))
            self._user_id = user or self._user_id
            self._add(record, options)
        except Exception as error:
            self._collector.reject(error)

    def alias(self, alias: object, **options: Unpack[CallOptions]) -> None:
        """Say that `alias`, an earlier anonymous id, is the same person as the current user. Signal only."""
        try:
            earlier = as_id(alias, "alias")
            if earlier is None:
                raise InvalidEventError(f"alias must be the earlier id of the person, not {shown(alias)}")
            self._add(Alias(alias=earlier, **self._common(options)), options)
        except Exception as error:
            self._collector.reject(error)

    def group(
        self,
        group_type: str,
        group_key: object,
        properties: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        """Put the current user in a group, such as `("company", "acme-1")`, and describe the group. Signal only."""
        try:
            kind, key = as_group(group_type, group_key)
            encoded = self._collector.encoder(properties)
            self._add(Group(group_type=kind, group_key=key, properties=encoded, **self._common(options)), options)
        except Exception as error:
            self._collector.reject(error)

    def set_person_properties(self, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> None:
        """Set properties of the current user, over what is there. Signal only."""
        self._person(properties, options, once=False)

    def set_person_properties_once(self, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> None:
        """Set properties of the current user that are not set yet. Signal only."""
        self._person(properties, options, once=True)

    def tag(self, **properties: Any) -> None:
        """Add these properties to every later event of this request; an event's own go before them."""
        self._tags = {**(self._tags or {}), **properties}

    def only(self, *destinations: str) -> Analytics:
        """Send what is captured from now on to these destinations alone; a call's own `destinations=` goes before.

        It also goes before the `choose_destinations` setting. A name that does not exist is a wrong call: of
        such a list only the names that exist count, so that nothing goes where it must not.

        Args:
            *destinations: Names of lanes, one or more.

        Returns:
            These analytics, so that a call may follow at once.

        Example:
            >>> client.analytics.only("signal_eu").capture("report_exported")  # doctest: +SKIP
        """
        known = self._collector.destination_names
        try:
            self._only = known.intersection(destinations)
            if not destinations:
                raise InvalidEventError("only() needs the name of a destination")
            self._only = as_destinations(destinations, known)
        except Exception as error:
            self._collector.reject(error)
        return self

    def _goal(
        self,
        direction: Literal["increment", "decrement"],
        goal_id: str,
        amount: Amount | None,
        *,
        metadata: Mapping[str, Any] | None,
        session_id: str | None,
        key: str | None,
        destinations: Iterable[str] | None,
        options: CommitOptions,
    ) -> None:
        try:
            amount = check_goal(goal_id, amount, session_id)
            check_commit(options)
            self._add(
                Goal(
                    goal_id=exact(goal_id),
                    direction=direction,
                    amount=amount,
                    session_id=exact(session_id) if session_id else None,
                    properties=self._goal_metadata(metadata),
                    entropy=entropy(),
                    time=time.time(),
                    key=as_key(key),
                    destinations=self._only
                    if destinations is None
                    else as_destinations(destinations, self._collector.destination_names),
                ),
                options,
            )
        except Exception as error:
            self._collector.reject(error)

    def _plain_tags(self) -> dict[str, Any] | None:
        """The tags as they are sent, since others may be no matter for a pickle."""
        if not self._tags:
            return None
        try:
            return cast("dict[str, Any]", decode(self._collector.encoder(self._tags)))
        except Exception as error:
            self._collector.reject(error)
            return None

    def _goal_metadata(self, metadata: object) -> bytes:
        """Encode a goal's metadata; like the vendor's SDK, leave out what is not an object and send the goal."""
        if metadata is None:
            return b"{}"
        if not isinstance(metadata, Mapping):
            self._collector.object_to(
                InvalidPropertiesError(f"metadata must be a mapping of names to values, not {shown(metadata)}")
            )
            return b"{}"
        # Its numbers become texts on the wire, and JSON has none for these.
        return self._collector.encoder({name: nonfinite_as_text(value) for name, value in metadata.items()})

    def _person(self, properties: Mapping[str, Any], options: CallOptions, *, once: bool) -> None:
        try:
            encoded = self._collector.encoder(properties)
            self._add(PersonProperties(properties=encoded, once=once, **self._common(options)), options)
        except Exception as error:
            self._collector.reject(error)
