"""Django's admin: records that wait for delivery, and dead letters, which it retries and deletes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from django.contrib import admin, messages
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import HttpRequest
from django.utils.html import format_html
from msgspec import Raw

from sessionsight import get_client
from sessionsight.sql_store.dead_letters import dead_letters, requeue
from sessionsight.sql_store.dialect import UNCLAIMED
from sessionsight.stores import DeadLetterQuery, DropReason
from sessionsight_django.outbox.models import DeadLetter, QueuedRecord

if TYPE_CHECKING:  # django-stubs' generic base
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

__all__ = ["DeadLetterAdmin", "QueuedRecordAdmin"]


class _RecordAdmin(_ModelAdmin):
    """Shows records, in the database of the spool, and changes nothing of them."""

    show_full_result_count = False
    ordering = ("id",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the records of the spool's database."""
        return super().get_queryset(request).using(_alias())

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: the app captures records."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: what was captured stays as it is."""
        return False

    @admin.display(description="record")
    def record(self, found: Any) -> str:
        """The kind and the name of the record."""
        record = _decode(found.body)[0]
        return " ".join(str(record[name]) for name in ("type", "name", "goal_id") if record.get(name))

    @admin.display(description="captured", ordering="enqueued_at")
    def captured(self, found: Any) -> datetime:
        """When it was queued."""
        return datetime.fromtimestamp(found.enqueued_at, UTC)

    @admin.display(description="payload")
    def payload(self, found: Any) -> str:
        """The record and the context of its request, as JSON."""
        return format_html(
            "<pre>{}</pre>", msgspec.json.format(msgspec.json.encode(_decode(found.body)), indent=2).decode()
        )


@admin.register(QueuedRecord)
class QueuedRecordAdmin(_RecordAdmin):
    """Records that wait for delivery."""

    list_display = ("id", "lane", "record", "captured", "size", "claimed", "in_flight")
    fields = ("lane", "record", "captured", "size", "claimed", "in_flight", "payload")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a relay may be sending it."""
        return False

    @admin.display(description="claimed", boolean=True)
    def claimed(self, found: QueuedRecord) -> bool:
        """True if a relay has claimed it."""
        return bool(found.claimed_by != UNCLAIMED)


@admin.register(DeadLetter)
class DeadLetterAdmin(_RecordAdmin):
    """Records that could not be delivered."""

    list_display = ("id", "lane", "record", "reason", "status", "message", "died")
    list_filter = ("lane", "reason")
    fields = ("lane", "record", "captured", "died", "reason", "status", "message", "attempts", "payload")
    actions = ("retry",)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user has the permission `sessionsight_outbox.retry_deadletter`."""
        return request.user.has_perm("sessionsight_outbox.retry_deadletter")  # type: ignore[union-attr]

    @admin.action(description="Retry the selected dead letters", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: Any) -> None:
        """Queue them again; a relay sends them within seconds."""
        with transaction.atomic(using=_alias()), connections[_alias()].cursor() as cursor:
            number = requeue(cursor, _query(queryset))
        messages.success(request, f"{number} queued again")

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete dead letters, which the ledger counts as `dead_letter_dropped`."""
        with transaction.atomic(using=_alias()), connections[_alias()].cursor() as cursor:
            dead_letters.delete(cursor, _query(queryset), counter=DropReason.DEAD_LETTER_DROPPED.value)

    def delete_model(self, request: HttpRequest, obj: DeadLetter) -> None:
        """Delete one dead letter in the same way."""
        self.delete_queryset(request, [obj])

    @admin.display(description="died", ordering="died_at")
    def died(self, found: DeadLetter) -> datetime:
        """When it was given up."""
        return datetime.fromtimestamp(found.died_at, UTC)


def _alias() -> str:
    return get_client().settings.database or DEFAULT_DB_ALIAS


def _query(found: Any) -> DeadLetterQuery:
    # Without ids the query would select all dead letters; none has the id 0.
    return DeadLetterQuery(ids=(0, *(one.pk for one in found)))


def _decode(body: Any) -> tuple[dict[str, Any], Any]:
    """Return the record, with its properties, and the context; what cannot be read is empty."""
    try:
        record, context = msgspec.msgpack.decode(bytes(body))
        return {**record, "properties": Raw(record["properties"])}, context
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError):
        return {}, None
