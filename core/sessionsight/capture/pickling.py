"""Pickles analytics: they keep their context, and use the default client of the process that loads them."""

from __future__ import annotations

import copyreg
import logging
from collections.abc import Mapping
from typing import Any, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.current import default_client
from sessionsight.capture.feedback import Feedback
from sessionsight.capture.flags import Flags
from sessionsight.capture.interfaces import CaptureClient
from sessionsight.capture.scope import RequestScope
from sessionsight.errors import CaptureError, NoClientError
from sessionsight.log import ThrottledLogger

__all__ = ["restore"]

_logger = ThrottledLogger()


class _ProcessClient:
    """The client of the process, looked up at each use, because it may be set up after the pickle was loaded.

    Without a client nothing is captured, and a log line says so once a minute.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(default_client(), name)

    def handle_error(self, error: Exception) -> None:
        """Handle a call that went wrong, as the client does."""
        self._pass_on("handle_error", error)

    def warn_or_raise(self, error: CaptureError) -> None:
        """Handle an argument that is left out, as the client does."""
        self._pass_on("warn_or_raise", error)

    def _pass_on(self, method: str, error: Exception) -> None:
        try:
            handle = self.__getattr__(method)
        except NoClientError as missing:
            _logger.log(logging.ERROR, f"{missing}; what unpickled analytics capture until then is lost")
        else:
            handle(error)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered; without a client, nothing is left."""
        try:
            return cast("bool", self.__getattr__("flush")(timeout))
        except NoClientError:
            return True

    async def aflush(self, timeout: float | None = None) -> bool:
        """As `flush`, without blocking the event loop."""
        try:
            return cast("bool", await self.__getattr__("aflush")(timeout))
        except NoClientError:
            return True


def restore(state: Mapping[str, Any]) -> Analytics:
    """Return analytics that submit each record immediately.

    Args:
        state: Attributes of the pickled analytics.
    """
    scope = RequestScope(cast("CaptureClient", _ProcessClient()))
    vars(scope).update(state, _ended=True)
    return Analytics(scope)


def _reduce(analytics: Analytics) -> tuple[Any, ...]:
    """Pickle the context and the selections, without the request and its pending records."""
    scope = analytics._scope
    context, drop = scope.resolve()
    state = {
        "_context": context,
        "_drop": drop,
        "_selected": scope._selected,
        "_only": scope._only,
        "_distinct_id": scope._distinct_id,
        "_anonymous_id": scope._anonymous_id,
        "_tags": analytics._encodable_tags(),
        "_flag_attributes": scope._flag_attributes,
    }
    return restore, (state,)


copyreg.pickle(Analytics, _reduce)
copyreg.pickle(Flags, lambda flags: (getattr, (Analytics(flags._scope), "flags")))
copyreg.pickle(Feedback, lambda feedback: (getattr, (Analytics(feedback._scope), "feedback")))
