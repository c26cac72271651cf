"""Everything that a store outside the core imports: the protocol, its values, and its errors.

A store keeps encoded records for a durable spool. `sessionsight_django.outbox` has one.
"""

from sessionsight.capture.records import DropReason
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import (
    CAPTURED,
    DEAD,
    FALLBACK,
    MAX_TAKEOVERS,
    PENDING,
    SUSPECT_TAKEOVERS,
    Claim,
    Claimed,
    Counts,
    DeadLetterQuery,
    DeadLetterStore,
    Enqueued,
    Failure,
    NewRecord,
    Outcome,
    Store,
    StoredDeadLetter,
    StoreStats,
    complete_counts,
    next_claim,
    store_stats,
)
from sessionsight.delivery.stores.errors import (
    AnswerLost,
    ForeignDatabase,
    ReentrantCall,
    StoreBusy,
    StoreError,
    StoreUnavailable,
)

__all__ = [
    "CAPTURED",
    "DEAD",
    "FALLBACK",
    "MAX_TAKEOVERS",
    "PENDING",
    "SUSPECT_TAKEOVERS",
    "AnswerLost",
    "Claim",
    "Claimed",
    "Clock",
    "Counts",
    "DeadLetterQuery",
    "DeadLetterStore",
    "DeliveryOptions",
    "DropReason",
    "Enqueued",
    "Failure",
    "ForeignDatabase",
    "NewRecord",
    "Outcome",
    "ReentrantCall",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreStats",
    "StoreUnavailable",
    "StoredDeadLetter",
    "complete_counts",
    "next_claim",
    "store_stats",
]
