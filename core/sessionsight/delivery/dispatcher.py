"""Forms batches, sends them when the gate allows, and carries out what their replies mean.

Used by one thread at a time, which calls `turn` again and again.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from sessionsight.delivery import before_send
from sessionsight.delivery.books import Books, DeadLetter
from sessionsight.delivery.options import DeliveryOptions, DeliveryProblem
from sessionsight.delivery.retry import Gate, backoff, retry_after
from sessionsight.delivery.senders import Attempt, Senders
from sessionsight.delivery.transport import NotSent, TimeLimits, TransportError, Unsendable, compressed
from sessionsight.destinations.base import Action, Destination, HttpCall, HttpReply, Verdict
from sessionsight.errors import ConfigurationError
from sessionsight.notices import Notices
from sessionsight.records import DropReason, Entry

__all__ = ["Dispatcher"]

# Single records refused in a row, with nothing accepted between, that mean a wrong key or address.
_REFUSALS_TO_PAUSE = 3
# How often a paused lane looks whether its key or address has changed.
_PAUSED_GLANCE = 1.0


class Job(Struct, eq=False, kw_only=True):
    """Entries that are sent in one call, and how that has gone so far."""

    entries: Sequence[Entry]
    attempts: int = 0
    first_attempt: float | None = None
    last_attempt: float | None = None
    not_before: float = 0.0
    call: HttpCall | None = None
    rendered_at: float = 0.0


def _part(job: Job, entries: Sequence[Entry]) -> Job:
    """Some of a job's entries as a job of their own, with the same history."""
    return Job(entries=entries, attempts=job.attempts, first_attempt=job.first_attempt, last_attempt=job.last_attempt)


def _halves(job: Job) -> list[Job]:
    middle = len(job.entries) // 2
    return [_part(job, job.entries[:middle]), _part(job, job.entries[middle:])]


class Dispatcher:
    """The decisions of one lane."""

    def __init__(
        self, destination: Destination, books: Books, senders: Senders, options: DeliveryOptions, notices: Notices
    ) -> None:
        self._destination = destination
        self._limits = destination.limits
        self._max_age = self._limits.max_age or options.max_age
        self._park_unknown = not self._limits.repeatable and options.goals_on_unknown == "park"
        self._books = books
        self._senders = senders
        self._options = options
        self._notices = notices
        self._gate = Gate(
            concurrency=self._limits.concurrency,
            calls_per_minute=self._limits.calls_per_minute,
            failures_to_open=options.breaker_failures,
            delay_after=self._backoff,
            pause_interval=options.pause_interval,
        )
        self._ready: deque[Job] = deque()
        self._retries: deque[Job] = deque()
        self._flying: dict[Attempt, Job] = {}
        self._refusals = 0
        self._refused_job: Job | None = None
        self.hurry = False
        """Send at once what would otherwise wait for company: somebody is flushing."""
        self.deadline = float("inf")
        """When the process ends, on the monotonic clock; no call may take longer."""

    @property
    def state(self) -> str:
        """The gate's state, for statistics."""
        return self._gate.state(time.monotonic())

    def resume(self) -> None:
        """Send again at once, after a pause or failures."""
        self._gate.resume()

    def turn(self) -> float:
        """Do everything that can be done now.

        Returns:
            Seconds after which there is something to do again, if nothing happens before.
        """
        for outcome in self._senders.finished():
            self._come_back(self._flying.pop(outcome.attempt), outcome.result)
        if evicted := self._books.take_evicted():
            self._tell(
                logging.WARNING,
                f"the queue is full, {evicted} records were dropped; the vendor is down or slower than the app",
                about="queue_full",
            )
        while True:
            now = time.monotonic()
            if self._refused_job is not None and self._has_changed(self._refused_job):
                self._refused_job = None
                self._gate.resume()
            wait = self._gate.delay(now, self._senders.in_flight)
            if wait <= 0:
                job, wait = self._next_job(now)
                if job is not None:
                    self._launch(job, now)
                    continue
            elif self._refused_job is not None:
                wait = min(wait, _PAUSED_GLANCE)
            return max(min(wait, self._senders.next_deadline - now), 0.0)

    # --- what to send ----------------------------------------------------------------------------

    def _next_job(self, now: float) -> tuple[Job | None, float]:
        """The next job, or how long until there is one."""
        if self._ready:
            return self._ready.popleft(), 0.0
        probing = self._gate.state(now) != "closed"
        if probing and self._retries and self._retries[0] is self._refused_job and self._books.waiting()[0]:
            # Perhaps it is this record that is wrong, and not the key: let another one try.
            self._claim()
            if self._ready:
                return self._ready.popleft(), 0.0
        for _ in range(len(self._retries)):
            job = self._retries.popleft()
            if probing or job.not_before <= now:
                return job, 0.0
            self._retries.append(job)
        wait = self._until_ripe(now)
        if wait <= 0:
            self._claim()
            return (self._ready.popleft(), 0.0) if self._ready else (None, 0.0)
        return None, min([wait, *(job.not_before - now for job in self._retries)])

    def _until_ripe(self, now: float) -> float:
        """Seconds until what waits should be sent without waiting for more."""
        waiting, size, since = self._books.waiting()
        if since is None:
            return float("inf")
        if self.hurry or waiting >= self._limits.max_records or size >= self._limits.max_bytes:
            return 0.0
        return since + self._options.linger - now

    def _claim(self) -> None:
        entries = self._books.claim(self._limits.max_records, self._limits.max_bytes)
        if self._options.before_send is not None:
            entries = [shown for entry in entries if (shown := self._show(entry)) is not None]
        if entries:
            self._ready.append(Job(entries=entries))

    def _show(self, entry: Entry) -> Entry | None:
        assert self._options.before_send is not None
        try:
            shown = before_send.apply(self._options.before_send, entry, self._destination.name)
        except Exception as error:
            self._tell(
                logging.ERROR, f"before_send failed with {type(error).__name__}: {error}; the record is dropped"
            )
            self._books.dropped([entry], DropReason.BEFORE_SEND_ERROR)
            return None
        if shown is None:
            self._books.dropped([entry], DropReason.BEFORE_SEND)
        return shown

    def _launch(self, job: Job, now: float) -> None:
        if not self._expire(job):
            return
        try:
            rendered_at = time.time()
            calls = list(self._destination.calls(job.entries, now=rendered_at))
            if sum(len(call.entries) for call in calls) != len(job.entries):
                raise ValueError("calls() must carry each entry exactly once")
        except ConfigurationError as error:
            self._judged(job, Verdict(action=Action.PAUSE, message=str(error)), None, now)
            return
        except Exception as error:
            self._judged(job, Verdict(action=Action.BISECT, message=f"{type(error).__name__} in calls()"), None, now)
            return
        if len(calls) > 1:
            self._ready.extendleft(_part(job, call.entries) for call in reversed(calls))
            return
        [job.call] = calls
        job.rendered_at = rendered_at
        job.attempts += 1
        job.last_attempt = rendered_at
        job.first_attempt = job.first_attempt or rendered_at
        limits = TimeLimits(
            connect=self._options.connect_timeout, read=self._options.read_timeout, total=self._options.total_timeout
        ).within(self.deadline - now)
        self._gate.sent(now)
        self._flying[self._senders.launch(compressed(job.call, self._limits.gzip_above), limits)] = job

    def _expire(self, job: Job) -> bool:
        """Bury what is too old. Returns whether anything is left."""
        oldest = time.time() - self._max_age
        if any(entry.since < oldest for entry in job.entries):
            expired = [entry for entry in job.entries if entry.since < oldest]
            job.entries = [entry for entry in job.entries if entry.since >= oldest]
            self._bury(job, expired, "expired", f"not delivered within {self._max_age:g} s", None)
        return bool(job.entries)

    # --- what came back --------------------------------------------------------------------------

    def _come_back(self, job: Job, result: HttpReply | TransportError) -> None:
        now = time.monotonic()
        assert job.call is not None
        if isinstance(result, HttpReply):
            try:
                verdict = self._destination.judge(job.call, result)
            except Exception as error:
                verdict = Verdict(action=Action.UNKNOWN, message=f"{type(error).__name__} in judge()")
            self._judged(job, verdict, result, now)
        else:
            action = Action.UNKNOWN
            if isinstance(result, NotSent):
                action = Action.RETRY
            elif isinstance(result, Unsendable):
                action = Action.PAUSE
            self._judged(job, Verdict(action=action, message=str(result)), None, now)

    def _judged(self, job: Job, verdict: Verdict, reply: HttpReply | None, now: float) -> None:
        status = reply.status if reply else None
        match verdict.action:
            case Action.DELIVERED:
                self._deliver(job, verdict, status)
            case Action.UNKNOWN if self._park_unknown:
                self._gate.failed(now)
                self._bury(job, job.entries, "unknown", verdict.message, status)
            case Action.RETRY | Action.UNKNOWN:
                self._retry(job, verdict, reply, now)
            case Action.SPLIT | Action.BISECT if len(job.entries) > 1:
                self._ready.extendleft(reversed(_halves(job)))
            case Action.SPLIT:
                self._bury(job, job.entries, "too_large", verdict.message, status)
            case Action.BISECT if self._refusals + 1 < _REFUSALS_TO_PAUSE:
                self._refusals += 1
                self._bury(job, job.entries, "refused", verdict.message, status)
            case Action.BISECT | Action.PAUSE:
                self._pause(job, verdict, status, now)

    def _deliver(self, job: Job, verdict: Verdict, status: int | None) -> None:
        if self._gate.state(time.monotonic()) != "closed":
            self._tell(logging.INFO, "delivering again", about="recovered")
        self._gate.succeeded()
        self._refusals = 0
        self._refused_job = None
        self._books.failed(None)
        if not verdict.refused:
            self._books.delivered(job.entries)
            return
        self._books.delivered([entry for i, entry in enumerate(job.entries) if i not in verdict.refused])
        for i, message in verdict.refused.items():
            self._bury(job, [job.entries[i]], "refused", message, status)

    def _retry(self, job: Job, verdict: Verdict, reply: HttpReply | None, now: float) -> None:
        header = reply.headers.get("retry-after") if reply else None
        hold = retry_after(header, now=time.time(), limit=self._options.retry_after_max)
        self._gate.failed(now, hold=hold)
        job.not_before = now + (self._backoff(job.attempts) if hold is None else hold)
        self._retries.append(job)
        self._books.failed(verdict.message)
        if self._gate.state(now) != "closed":
            self._tell(
                logging.WARNING,
                f"unreachable or failing ({verdict.message}); records are kept and sent when it is back",
                about="unreachable",
            )
        self._report(job, "unreachable", verdict.message, reply.status if reply else None)

    def _pause(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        self._gate.pause(now)
        self._refused_job = job
        self._retries.append(job)
        self._books.failed(verdict.message)
        options = ", ".join(sorted(getattr(self._destination, "secrets", ()))) or "its key"
        url = job.call.url if job.call else "its address"
        self._tell(
            logging.ERROR,
            f"paused, because the vendor refuses our calls ({verdict.message}); check {options} and the address {url}. "
            f"Records are kept; the next try is in {self._options.pause_interval:g} s, or as soon as a key changes",
            about="paused",
        )
        self._report(job, "paused", verdict.message, status)

    def _bury(self, job: Job, entries: Sequence[Entry], reason: str, message: str, status: int | None) -> None:
        self._books.died(
            [
                DeadLetter(
                    destination=self._destination.name,
                    entry=entry,
                    reason=reason,
                    message=message,
                    status=status,
                    attempts=job.attempts,
                    first_attempt=job.first_attempt,
                    last_attempt=job.last_attempt,
                )
                for entry in entries
            ]
        )
        self._books.failed(message)
        what = {
            "unknown": "nobody knows whether they arrived, and sending them again might count them twice",
            "expired": "they were too old",
        }.get(reason, "the vendor refuses them")
        self._tell(
            logging.WARNING,
            f"{len(entries)} records became dead letters ({reason}), because {what}: {message}",
            about=f"dead:{reason}",
        )
        self._report(job, reason, message, status, records=len(entries))

    # --- small things ----------------------------------------------------------------------------

    def _has_changed(self, job: Job) -> bool:
        """Whether the call that was refused would be another one today: a key or an address has changed."""
        try:
            calls = list(self._destination.calls(job.entries, now=job.rendered_at))
        except Exception:
            return False  # the next probe will say what is wrong
        return calls != [job.call]

    def _backoff(self, failures: int) -> float:
        return backoff(
            failures, base=self._options.backoff_base, limit=self._options.backoff_max, random=random.random
        )

    def _tell(self, level: int, message: str, *, about: str | None = None) -> None:
        name = self._destination.name
        self._notices.tell(level, f"{name}: {message}", about=f"{name}:{about or message}")

    def _report(self, job: Job, reason: str, message: str, status: int | None, *, records: int | None = None) -> None:
        if self._options.on_error is None:
            return
        problem = DeliveryProblem(
            destination=self._destination.name,
            reason=reason,
            message=message,
            records=len(job.entries) if records is None else records,
            status=status,
        )
        try:
            self._options.on_error(problem)
        except Exception as error:
            self._tell(logging.ERROR, f"on_error failed with {type(error).__name__}: {error}")
