"""Everything that an adapter for a web framework imports from the core.

An adapter drives one `RequestScope` for each request, in four steps:

1. **Begin.** Make the scope with the client and a `RequestReader`, and give the view an `Analytics` of that scope.
   While the view runs, these are the current analytics (`set_current` and `reset_current` in the same frame, or
   `run_with`), so that `sessionsight.current()` finds them.
2. **`response_started`**, if `client.pageviews`: pass the method, the status and the Content-Type, so that page views
   are captured. A response that goes on after its first bytes, or a websocket, also calls `stays_open`.
3. **`end`** after the last byte of the response. If `client.must_submit_early()`, call `end_before_last_byte` (or
   `aend_before_last_byte` on an event loop) before that byte; `ContentLengthTracker` recognizes it.
4. **`close`** when the request is over, also after an exception or a cancellation. It ends a scope that has not
   ended, and releases the request. With `client.must_submit_early()`, an async adapter awaits
   `aend_before_last_byte` before, because `close` may block.

None of these methods raises outside strict mode, and each may be called more than once.

The request's reader returns raw strings, and no more than it needs of the request: `snapshot_environ` and
`snapshot_scope` do that for WSGI and ASGI. A framework's own request object, where it exists only later, replaces the
server's by `RequestScope.bind_request`.

The middleware's client is that of `client_for_adapter`, which accepts a shared client, settings or options. An ASGI
adapter waits for delivery at the server's shutdown with `flush_on_shutdown`. A framework with database transactions
sets `client.defer_record`, and `client.join_transaction` if records are kept in its database; one that has a current
request of its own calls `register_framework`.

The remaining names read settings from a framework's configuration, log, and support tests.

Example:
    >>> class ShopRequest:
    ...     def __init__(self, request):
    ...         self._request = request
    ...
    ...     def snapshot(self, names):
    ...         return snapshot_environ(self._request.environ, names)
    ...
    ...     def framework_request(self):
    ...         return self._request
    ...
    ...     def user_id(self):
    ...         return self._request.user_id
    ...
    ...     def route(self):
    ...         return self._request.route
    >>> def serve(request, view, client):
    ...     scope = RequestScope(client, ShopRequest(request))
    ...     request.analytics = analytics = Analytics(scope)
    ...     try:
    ...         response = run_with(analytics, view, request)
    ...         if client.pageviews:
    ...             scope.response_started(request.method, response.status, response.content_type)
    ...         if client.must_submit_early():
    ...             scope.end_before_last_byte()
    ...         response.send()
    ...         scope.end()
    ...     finally:
    ...         scope.close()
"""

from sessionsight.callbacks import check_sync, run
from sessionsight.capture.analytics import Analytics
from sessionsight.capture.current import (
    Framework,
    close_response,
    current_in,
    default_client,
    get_current,
    is_current,
    register_framework,
    reset_current,
    run_with,
    scope_of,
    set_current,
    set_default_source,
    suspended,
)
from sessionsight.capture.interfaces import RequestReader
from sessionsight.capture.records import Record
from sessionsight.capture.scope import RequestScope
from sessionsight.capture.transactions import (
    DeferRecord,
    JoinedTransaction,
    JoinTransaction,
    TransactionListener,
    TransactionLost,
)
from sessionsight.content_length import ContentLengthTracker
from sessionsight.environment import VARIABLES, from_text, option_of
from sessionsight.errors import describe, did_you_mean
from sessionsight.event_loop import on_event_loop, run_in_worker
from sessionsight.lifespan import flush_on_shutdown
from sessionsight.log import ThrottledLogger, logger
from sessionsight.process import client_for_adapter
from sessionsight.request.page_config import SafeHtml, sessionsight_config
from sessionsight.request.raw import HeaderNames, RequestData, snapshot_environ, snapshot_scope
from sessionsight.request.urls import quote_path
from sessionsight.test_mode import test_mode

__all__ = [
    "VARIABLES",
    "Analytics",
    "ContentLengthTracker",
    "DeferRecord",
    "Framework",
    "HeaderNames",
    "JoinTransaction",
    "JoinedTransaction",
    "Record",
    "RequestData",
    "RequestReader",
    "RequestScope",
    "SafeHtml",
    "ThrottledLogger",
    "TransactionListener",
    "TransactionLost",
    "check_sync",
    "client_for_adapter",
    "close_response",
    "current_in",
    "default_client",
    "describe",
    "did_you_mean",
    "flush_on_shutdown",
    "from_text",
    "get_current",
    "is_current",
    "logger",
    "on_event_loop",
    "option_of",
    "quote_path",
    "register_framework",
    "reset_current",
    "run",
    "run_in_worker",
    "run_with",
    "scope_of",
    "sessionsight_config",
    "set_current",
    "set_default_source",
    "snapshot_environ",
    "snapshot_scope",
    "suspended",
    "test_mode",
]
