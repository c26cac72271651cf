"""Compares the client's counters of each lane with the calls of its transport and the requests of the vendor."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from sessionsight.delivery.sender_pool import _GRACE
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter
from sessionsight.delivery.transport import NotSent, TimeLimits, Transport, TransportError
from sessionsight.destinations.base import VendorRequest, VendorResponse


class Outcome(Enum):
    """Outcome of a call as known to the caller."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Try(NamedTuple):
    """One attempt to send a record."""

    begun: float
    token: str
    outcome: Outcome
    late: bool
    """The call returned when its lane may have timed it out, as one with an unknown outcome."""


class Witness:
    """A transport that records the outcome of each call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.tries: list[Try] = []

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Send the call once."""
        begun = time.monotonic()
        outcome = Outcome.UNKNOWN
        try:
            reply = self._transport.send(call, limits)
            if reply.status < 500 or (reply.status == 503 and "retry-after" in reply.headers):
                outcome = Outcome.TAKEN if 200 <= reply.status < 300 else Outcome.REFUSED
            return reply
        except TransportError as error:
            if isinstance(error, NotSent):
                outcome = Outcome.REFUSED
            raise
        finally:
            late = time.monotonic() - begun >= limits.total + _GRACE / 2
            self.tries += [Try(begun, entry.record.label, outcome, late) for entry in call.entries]

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()


@dataclass
class Account:
    """The figures of one lane when nothing is pending."""

    lane: str
    stats: LaneStats
    captured: Counter[str]
    """Token to the number of times that it was captured for this lane."""
    dead: Sequence[DeadLetter]
    tries: Sequence[Try]
    counted: Counter[str]
    """Token to the number of times that the vendor has counted it."""
    repeats: bool
    """True if the lane repeats records whose outcome is unknown."""
    dead_tokens: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.dead_tokens = Counter(letter.entry.record.label for letter in self.dead)

    def twice(self) -> int:
        """Records that the vendor has counted more than once."""
        return sum(number > 1 for number in self.counted.values())

    def unknown(self) -> int:
        """Attempts with an unknown outcome."""
        return sum(each.outcome is Outcome.UNKNOWN for each in self.tries)

    def problems(self) -> list[str]:
        """Return the violations; an empty list if every record is accounted for."""
        return [f"{self.lane}: {problem}" for problem in (*self._sums(), *self._losses(), *self._repetitions())]

    def _sums(self) -> list[str]:
        stats, problems = self.stats, []
        if not stats.balanced:
            problems.append(f"the ledger does not add up: {stats}")
        if stats.captured != self.captured.total():
            problems.append(f"{self.captured.total()} records were captured, the ledger has {stats.captured}")
        if stats.dead != len(self.dead):
            problems.append(f"there are {len(self.dead)} dead letters, the ledger has {stats.dead}")
        taken = [each for each in self.tries if each.outcome is Outcome.TAKEN]
        certain = sum(not each.late for each in taken)
        if not certain <= stats.delivered <= len(taken):
            problems.append(f"{certain} to {len(taken)} records went through, the ledger has {stats.delivered}")
        return problems

    def _losses(self) -> list[str]:
        gone = self.captured.keys() - self.counted.keys() - self.dead_tokens.keys()
        excused = self.stats.pending + sum(self.stats.dropped.values()) - self.stats.dropped.get("duplicate", 0)
        problems = []
        if len(gone) > excused:
            problems.append(f"{len(gone)} records are lost, {excused} of them with a reason: {sorted(gone)[:5]}")
        if invented := self.counted.keys() - self.captured.keys():
            problems.append(f"the vendor counted what nobody captured: {sorted(invented)[:5]}")
        return problems

    def _repetitions(self) -> list[str]:
        problems = []
        by_token: dict[str, list[Try]] = defaultdict(list)
        for each in sorted(self.tries, key=lambda each: each.begun):  # one that hung may return after its successor
            by_token[each.token].append(each)
        for token, tries in by_token.items():
            settled = [each.outcome is Outcome.TAKEN and not each.late for each in tries[:-1]]
            if any(settled):
                problems.append(f"{token} was sent again after it had been taken")
            if not self.repeats and any(each.outcome is Outcome.UNKNOWN for each in tries[:-1]):
                problems.append(f"{token} was sent again although nobody knew whether it had arrived")
        for token, number in self.counted.items():
            doubts = sum(each.outcome is Outcome.UNKNOWN or each.late for each in by_token[token])
            if number > 1 + doubts:
                problems.append(f"{token} was counted {number} times, with {doubts} unknown outcomes")
        return problems


ROW = "{:<13} {:>9} {:>10} {:>8} {:>7} {:>8} {:>7} {:>9} {:>8}"
HEADINGS = ROW.format("lane", "captured", "delivered", "pending", "dead", "dropped", "tries", "unknown", "twice")


def row(account: Account) -> str:
    """The figures of one lane."""
    stats = account.stats
    return ROW.format(
        account.lane,
        stats.captured,
        stats.delivered,
        stats.pending,
        stats.dead,
        sum(stats.dropped.values()),
        len(account.tries),
        account.unknown(),
        account.twice(),
    )
