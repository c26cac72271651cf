"""The options of delivery. `Settings` adds those of requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

__all__ = ["BeforeSend", "DeliveryOptions", "DeliveryProblem", "OnError"]


class DeliveryProblem(Struct, frozen=True, kw_only=True):
    """The argument of `on_error`: records that could not be delivered, temporarily or finally."""

    destination: str
    reason: str
    """`paused`, `unreachable`, or the reason of a dead letter such as `refused`, `unknown`, `expired`."""
    message: str
    """The message of the vendor or the network."""
    records: int
    """Number of records concerned."""
    status: int | None = None
    """The HTTP status, if there was a reply."""


BeforeSend = Callable[[dict[str, Any], str], dict[str, Any] | None]
"""Called with a record as a dict and the destination's name; returns the dict to send, or None to drop it."""

OnError = Callable[[DeliveryProblem], None]


class DeliveryOptions(Struct, frozen=True, kw_only=True):
    """Options of queues, batches, timeouts and retries. Times are in seconds, sizes in bytes."""

    delivery: Literal["background", "relay"] = "background"
    """Where records are delivered: by threads of this process, or by `sessionsight relay`, so that this process only
    writes them to its durable spool."""
    queue_records: int = 100_000
    """Maximum number of records in a lane's memory queue. A full queue drops events before goals, the oldest first."""
    queue_bytes: int = 64 * 1024 * 1024
    """Maximum size of a lane's memory queue, contexts included. The same rule applies when it is reached."""
    linger: float = 0.05
    """Time that a record may wait for others to share its batch."""
    connect_timeout: float = 5.0
    """Time limit for opening a connection."""
    read_timeout: float = 10.0
    """Time limit for each read from the vendor and each write to it."""
    total_timeout: float = 30.0
    """Time limit for a whole call."""
    backoff_base: float = 0.5
    """Upper bound of the random delay after a first failure. It doubles with each further failure."""
    backoff_max: float = 60.0
    """Upper bound of the delay after any number of failures."""
    retry_after_max: float = 300.0
    """Longest `Retry-After` that is obeyed."""
    breaker_failures: int = 5
    """Consecutive failures after which a lane sends only single probes until one succeeds."""
    pause_interval: float = 60.0
    """Time between the probes of a vendor that rejected the key or the URL."""
    max_age: float = 7 * 24 * 3600.0
    """Age at which an undelivered record becomes a dead letter. For goals it is always 24 hours."""
    goals_on_unknown: Literal["dead_letter", "retry"] = "dead_letter"
    """Handling of a goal that may or may not have been received: keep it as a dead letter, or send it again."""
    dedupe_window: float = 24 * 3600.0
    """Time for which a `key` is remembered."""
    dedupe_keys: int = 10_000
    """Maximum number of keys that one lane remembers in memory. A durable spool remembers all keys of the window."""
    dead_letters: int = 1_000
    """Maximum number of dead letters per lane. Beyond it the oldest are dropped and counted."""
    dead_letters_max_age: float = 30 * 24 * 3600.0
    """Time for which a durable spool keeps dead letters."""
    spool_bytes: int = 256 * 1024 * 1024
    """Maximum size of a durable spool. It replaces `queue_records` and `queue_bytes`; the same rule applies."""
    spool_synchronous: Literal["normal", "full"] = "normal"
    """With `"full"` each write to a SQLite spool waits for the disk, so that records survive a power failure."""
    spool_timeout: float = 0.25
    """Time that a request waits for a durable spool: for other writers of a file, or for a server. After it the
    request's records are kept in memory, where a `kill -9` loses them. After one timeout, records of the next second
    are kept there without waiting."""
    flush_timeout: float = 5.0
    """Time limit of `flush()` without an argument."""
    shutdown_timeout: float = 2.0
    """Time limit for delivering what is pending when the process exits, shared by all clients."""
    max_response_bytes: int = 64 * 1024
    """Maximum size of a vendor's response that is read."""
    proxy: str | None = None
    """URL of an HTTP proxy for all vendors."""
    ca_bundle: str | None = None
    """Path of a file with CA certificates to trust instead of the default ones."""
    trust_env: bool = True
    """Use `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and similar environment variables."""
    before_send: BeforeSend | None = None
    """Called on the dispatcher thread with a copy of each record and the destination's name. Returns the record,
    changed or not, or None to drop it."""
    on_error: OnError | None = None
    """Called on the dispatcher thread with a `DeliveryProblem` when records cannot be delivered."""
