"""`request.analytics.feedback`: a visitor's answer to one of SessionSight's feedback types, delivered as a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sessionsight.capture.receipt import Receipt
from sessionsight.capture.records import FeedbackRecord
from sessionsight.capture.signatures import signature
from sessionsight.capture.validation import validate_text
from sessionsight.errors import InvalidEventError, InvalidPropertiesError, describe

if TYPE_CHECKING:
    from sessionsight.capture.scope import RequestScope

__all__ = ["Feedback"]


@signature(hint="answers go by keyword, such as message='...'")
def _submit(  # type: ignore[empty-body]
    self: Any,
    feedback_type_id: str,
    *,
    option: str | None = None,
    message: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    key: str | None = None,
    destinations: Iterable[str] | None = None,
    on_commit: bool | None = None,
    using: object = None,
) -> Receipt:
    """Submit a visitor's feedback.

    It is delivered in the background, as goals are: it needs a session, and one that the vendor may have received
    already is not sent again.

    Args:
        feedback_type_id: The slug of a feedback type that exists in SessionSight's dashboard.
        option: One of the type's options. An empty one is not sent.
        message: Free text, if the type has a text field. Sent up to 5,000 characters; an empty one is not sent.
        metadata: Names to values, which are sent as strings, unfiltered.
        session_id: In place of the request's `ss_sid`.
        key: An idempotency key: a second call with the same type and key is not delivered.
        destinations: Names of the destinations to go to; all that take feedback by default.
        on_commit: False submits it whatever becomes of the database transaction around the call.
        using: Has the transaction that it waits for: the alias of a database of Django, or a session of SQLAlchemy.

    Raises:
        InvalidEventError: In strict mode, when an argument is wrong. Otherwise that is logged.

    Example:
        >>> request.analytics.feedback.submit("page-rating", option="good", message="Clear")  # doctest: +SKIP
    """


class Feedback:
    """Feedback of one request's visitor, as in SessionSight's own SDK.

    Source: https://github.com/SessionSight/sdks (feedback/src).
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: RequestScope) -> None:
        self._scope = scope

    @_submit.implements
    def submit(self, /, *given: Any, **options: Any) -> Receipt:
        scope = self._scope
        try:
            [feedback_type_id] = _submit.bind(given, options)
            session_id = options.pop("session_id", None)
            answer = {
                "option": _text(options.pop("option", None), "option"),
                # Cut here, because a visitor's text may be longer than a record's properties may be.
                "message": _text(options.pop("message", None), "message", FeedbackRecord.max_message),
                "metadata": options.pop("metadata", None),
            }
            if not isinstance(metadata := answer["metadata"], Mapping | None):
                scope._client.warn_or_raise(
                    InvalidPropertiesError(f"metadata must be a mapping of names to values, not {describe(metadata)}")
                )
                answer["metadata"] = None
            record = FeedbackRecord(
                feedback_type_id=validate_text(feedback_type_id, "feedback_type_id"),
                session_id=None if session_id is None else validate_text(session_id, "session_id"),
                properties=scope._client.encoder({name: value for name, value in answer.items() if value}),
                **scope._record_fields(options),
            )
            return scope._add(record, options)
        except Exception as error:
            return scope._refuse(error)


def _text(value: object, name: str, max_length: int | None = None) -> object:
    """Return a string or None, or raise `InvalidEventError`."""
    if value is None:
        return None
    if isinstance(value, str):
        return value[:max_length]
    raise InvalidEventError(f"{name} must be a string, not {describe(value)}")
