"""How delivery behaves, as one value. `Settings` adds what concerns requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

__all__ = ["BeforeSend", "DeliveryOptions", "DeliveryProblem", "OnError"]


class DeliveryProblem(Struct, frozen=True, kw_only=True):
    """What `on_error` is told: records that could not be delivered, now or for good."""

    destination: str
    reason: str
    """`paused`, `unreachable`, or the reason of a dead letter such as `refused`, `unknown`, `expired`."""
    message: str
    """The vendor's own words, or the network's."""
    records: int
    """How many records are concerned."""
    status: int | None = None
    """The HTTP status, if there was a reply."""


BeforeSend = Callable[[dict[str, Any], str], dict[str, Any] | None]
"""Takes a record as a dict and the destination's name; returns the dict to send, or None to drop it."""

OnError = Callable[[DeliveryProblem], None]


class DeliveryOptions(Struct, frozen=True, kw_only=True):
    """Queues, batches, time limits and retries. Times are seconds, sizes bytes."""

    queue_records: int = 100_000
    """Records that one lane keeps; when it is full, events go before goals, oldest first."""
    queue_bytes: int = 64 * 1024 * 1024
    """Bytes of memory that one lane's records take, contexts included, about; the same rule."""
    linger: float = 0.05
    """How long a record may wait for others to share its batch."""
    connect_timeout: float = 5.0
    """For opening a connection."""
    read_timeout: float = 10.0
    """For each wait for the vendor, and each write to it."""
    total_timeout: float = 30.0
    """For a whole call."""
    backoff_base: float = 0.5
    """Upper end of the first random delay after a failure; it doubles with each further one."""
    backoff_max: float = 60.0
    """Upper end of any such delay."""
    retry_after_max: float = 300.0
    """The longest `Retry-After` that is obeyed."""
    breaker_failures: int = 5
    """Failures in a row after which only single probes are sent."""
    pause_interval: float = 60.0
    """Between probes of a vendor that refused the key or the address."""
    max_age: float = 7 * 24 * 3600.0
    """After this time a record that could not be delivered becomes a dead letter (goals: 24 hours)."""
    goals_on_unknown: Literal["park", "retry"] = "park"
    """What happens to a goal that may or may not have arrived: kept as a dead letter, or sent again."""
    dedupe_window: float = 24 * 3600.0
    """How long a `key` is remembered."""
    dedupe_keys: int = 10_000
    """How many keys one lane remembers in memory; a durable spool remembers all of the window."""
    dead_letters: int = 1_000
    """Dead letters that one lane keeps; beyond that the oldest are dropped and counted."""
    dead_letters_max_age: float = 30 * 24 * 3600.0
    """How long a durable spool keeps them."""
    spool_bytes: int = 256 * 1024 * 1024
    """How large a durable spool's file may grow, in place of `queue_records` and `queue_bytes`; the same rule."""
    spool_synchronous: Literal["normal", "full"] = "normal"
    """Whether a durable spool waits for the disk at each write, so that not even a power failure costs any."""
    spool_busy_timeout: float = 1.0
    """How long a request waits for a durable spool that others write to; then its records wait in memory.

    There a `kill -9` would find them, so the time is rather long. After one request has waited in vain, those of
    the next second wait for 0.05 s at most.
    """
    flush_timeout: float = 5.0
    """How long `flush` waits when it is not told."""
    shutdown_timeout: float = 2.0
    """How long the process may take to deliver what is left when it exits, over all clients."""
    max_response_bytes: int = 64 * 1024
    """How much of a vendor's reply is read."""
    proxy: str | None = None
    """Address of an HTTP proxy for all vendors."""
    ca_bundle: str | None = None
    """A file of certificates to trust in place of the defaults."""
    trust_env: bool = True
    """Whether `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and their like count."""
    before_send: BeforeSend | None = None
    """Sees a copy of each record before it leaves, in the lane's thread; may change or drop it."""
    on_error: OnError | None = None
    """Told of failures, in the lane's thread."""
