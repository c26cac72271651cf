"""Whether, as whose and under which context a request's records go: the settings, asked about one request.

What a user's function raises is logged and never passed on: in doubt about consent nothing is sent, in
doubt about anything else the records go. A function that gives no answer, but an awaitable, counts as a no.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from urllib.parse import unquote

from msgspec import Struct

from sessionsight.callbacks import UnawaitedResult, decide, run
from sessionsight.capture.interfaces import Admit, RequestReader
from sessionsight.capture.records import DropReason
from sessionsight.capture.validation import as_destinations, as_id
from sessionsight.request.consent import consents
from sessionsight.request.context import OPTED_OUT, TrackingContext
from sessionsight.request.pageviews import HEADERS as PAGE_HEADERS
from sessionsight.request.pageviews import is_bot, is_page_visit
from sessionsight.request.raw import HeaderNames, RequestData, from_any
from sessionsight.request.resolve import resolve
from sessionsight.settings import Settings

__all__ = ["Admission", "Teller"]


class Teller(Protocol):
    """How the operator is told something."""

    def __call__(self, level: int, message: str, *, about: str | None = None) -> None:
        """Tell it, once a minute for each `about`, which is the message by default."""


class Admission:
    """Answers for one client what its settings say of a request.

    Args:
        settings: The client's.
        names: The destinations that `choose_destinations` may name.
        tell: Tells the operator.
        count: Counts something by name.
    """

    def __init__(
        self, settings: Settings, names: frozenset[str], *, tell: Teller, count: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.chooses = settings.choose_destinations is not None
        """Whether `choose` has to be asked."""
        # A user's function is asked where the request is served: it may look at anything there.
        self._look_now = settings.should_capture is not None or callable(settings.consent)
        self._names = names
        self._tell = tell
        self._count = count
        self._ask = settings.user if callable(settings.user) else None
        self._asks = self._look_now or self._ask is not None
        self._header_names = HeaderNames(settings.anonymous_id_header, cookie=settings.anonymous_id_cookie)
        self._page_names = HeaderNames(*PAGE_HEADERS)
        self._is_bot = settings.is_bot or is_bot
        self._excluded = re.compile("|".join(map(fnmatch.translate, settings.exclude_paths)))

    def look(self, reader: RequestReader, request: Any) -> tuple[Admit, str | None, str | None]:
        """What `admit`, `user_id` and `route` tell, in one go: each request is looked at once."""
        if self._asks:
            return self._look_closely(reader, request)
        try:
            snapshot, user_id = reader.snapshot(request, self._header_names), reader.user_id(request)
            if user_id is not None:
                user_id = as_id(user_id, "user")
            return Postponed(self._admit, snapshot), user_id, reader.route(request)
        except Exception:
            return self._look_closely(reader, request)

    def admit(self, reader: RequestReader, request: Any) -> Admit:
        """What gives a request's context when it is called, and why nothing of it may be sent, if so."""
        try:
            snapshot = reader.snapshot(request, self._header_names)
        except Exception as error:
            self._tell_failure("the request could not be read", error)
            snapshot = RequestData
        if self._look_now:
            admitted = self._admit(snapshot, partial(reader.native, request))
            return lambda: admitted
        return Postponed(self._admit, snapshot)

    def wants_page(self, reader: RequestReader, request: Any) -> bool:
        """Return whether the page is captured: a person has opened it, and the `pageviews` setting says so."""
        wanted = self.settings.pageviews
        if wanted is False or not self._is_visited(reader, request):
            return False
        if wanted is True:
            return True
        try:
            return decide(wanted, reader.native(request))
        except Exception as error:
            self._tell_failure("pageviews failed, which is taken as no", error)
            return False

    def _is_visited(self, reader: RequestReader, request: Any) -> bool:
        """Return whether a person has opened the page, by the request's headers."""
        try:
            headers = reader.snapshot(request, self._page_names)().headers
            return is_page_visit(headers) and not decide(self._is_bot, headers.get("user-agent", ""))
        except Exception as error:
            self._tell_failure("is_bot failed, which is taken as yes", error)
            return False

    def choose(self, reader: RequestReader, request: Any) -> frozenset[str] | DropReason | None:
        """The destinations of this request's records, by the `choose_destinations` setting."""
        return self._choose(partial(reader.native, request))

    def user_id(self, reader: RequestReader, request: Any) -> str | None:
        """Who is signed in, by the `user` setting."""
        try:
            found = reader.user_id(request) if self._ask is None else run(self._ask, reader.native(request))
            return None if found is None else as_id(found, "user")
        except Exception as error:
            self._tell_failure("the user could not be read", error)
            return None

    def route(self, reader: RequestReader, request: Any) -> str | None:
        """The template of the route that matched, if one has."""
        try:
            return reader.route(request)
        except Exception as error:
            self._tell_failure("the route could not be read", error)
            return None

    def _look_closely(self, reader: RequestReader, request: Any) -> tuple[Admit, str | None, str | None]:
        """The same one by one, each with its own word if it fails."""
        return self.admit(reader, request), self.user_id(reader, request), self.route(reader, request)

    def admit_any(
        self, request: object
    ) -> tuple[TrackingContext, DropReason | None, frozenset[str] | DropReason | None]:
        """As `admit` and `choose`, for a request of any shape."""
        context, drop = self._resolve(from_any(request, self._header_names), lambda: request)
        return context, drop, self._choose(lambda: request)

    def _admit(
        self, snapshot: Callable[[], RequestData], native: Callable[[], Any]
    ) -> tuple[TrackingContext, DropReason | None]:
        try:
            data = snapshot()
        except Exception as error:
            self._tell_failure("the request could not be read", error)
            data = RequestData()
        return self._resolve(data, native)

    def _resolve(self, data: RequestData, native: Callable[[], Any]) -> tuple[TrackingContext, DropReason | None]:
        settings = self.settings
        resolution = resolve(
            data,
            anonymous_id_cookie=settings.anonymous_id_cookie,
            anonymous_id_header=settings.anonymous_id_header,
            client_ip=settings.client_ip,
            trusted_proxies=settings.trusted_proxies,
        )
        for name in resolution.refused:
            self._count(f"refused:{name}")
            self._tell(logging.WARNING, f"{name} holds an id that no vendor would take; it counts as missing")
        drop = self._objection(data, native)
        # Without consent the ids are not kept either; a job or a webhook gets to know that she has refused.
        return OPTED_OUT if drop is DropReason.CONSENT else resolution.context, drop

    def _choose(self, native: Callable[[], Any]) -> frozenset[str] | DropReason | None:
        if self.settings.choose_destinations is None:
            return None
        try:
            return as_destinations(run(self.settings.choose_destinations, native()), self._names)
        except Exception as error:
            # One tenant's records must not reach all the others.
            self._tell_failure("choose_destinations failed, and the records it was asked for go nowhere", error)
            return DropReason.CHOICE_ERROR

    def _objection(self, data: RequestData, native: Any) -> DropReason | None:
        settings = self.settings
        try:
            if settings.consent != "all" and not consents(settings.consent, data):
                return DropReason.CONSENT
        except Exception as error:
            self._tell_failure("consent failed, which is taken as a refusal", error)
            return DropReason.CONSENT
        if data.path is not None and settings.exclude_paths and self._excluded.match(unquote(data.path)):
            return DropReason.EXCLUDED
        if settings.should_capture is not None:
            try:
                if not decide(settings.should_capture, native()):
                    return DropReason.EXCLUDED
            except UnawaitedResult as error:
                # An exception concerns one request; this is the answer to all of them, unread, and may be a no.
                self._tell_failure("should_capture gave no answer, which is taken as no", error)
                return DropReason.EXCLUDED
            except Exception as error:
                self._tell_failure("should_capture failed, which is taken as yes", error)
        return None

    def _tell_failure(self, what: str, error: Exception) -> None:
        self._tell(logging.ERROR, f"{what}: {type(error).__name__}: {error}", about=what)


class Postponed(Struct, gc=False):
    """A request's context, to be worked out when somebody needs it: once, on whatever thread that is."""

    admit: Callable[[Callable[[], RequestData], Callable[[], Any]], tuple[TrackingContext, DropReason | None]]
    snapshot: Callable[[], RequestData]
    admitted: tuple[TrackingContext, DropReason | None] | None = None

    def __call__(self) -> tuple[TrackingContext, DropReason | None]:
        if self.admitted is None:
            self.admitted = self.admit(self.snapshot, _nothing)
        return self.admitted


def _nothing() -> None:
    """The request, once it has gone."""
