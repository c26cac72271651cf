"""Forms batches, sends them when the gate allows, and carries out what their replies mean.

Used by one thread at a time, which calls `turn` again and again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from os import urandom

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.before_send import LastLook
from sessionsight.delivery.credential_watch import KeyWatch
from sessionsight.delivery.jobs import Job
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.redaction import discreet, discreet_url
from sessionsight.delivery.reports import Reports
from sessionsight.delivery.retry import Gate, backoff, retry_after
from sessionsight.delivery.schedule import Agenda
from sessionsight.delivery.sender_pool import Attempt, Senders
from sessionsight.delivery.transport import NotSent, TimeLimits, TransportError, Unsendable, compressed
from sessionsight.destinations.base import Action, Destination, VendorRequest, VendorResponse, Verdict
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger
from sessionsight.test_mode import test_mode

__all__ = ["Dispatcher"]

# Single records refused in a row, with nothing accepted between, that mean a wrong key or address.
_REFUSALS_TO_PAUSE = 3
# Refusals for the key that are the record's own fault, for other calls have gone through since.
_REFUSALS_TO_BURY = 2
# Seconds between checks whether a test still redirects delivery; nothing wakes a lane at its end.
_BLOCKED_INTERVAL = 0.05
# What a foreign function may raise in a lane. SystemExit ends threads without a sound.
_ANY = (Exception, SystemExit)


class Dispatcher:
    """The decisions of one lane."""

    def __init__(
        self,
        destination: Destination,
        queue: LaneQueue,
        senders: Senders,
        options: DeliveryOptions,
        logger: ThrottledLogger,
    ) -> None:
        self._destination = destination
        self._limits = destination.limits
        self._max_age = self._limits.max_age or options.max_age
        self._park_unknown = not self._limits.idempotent and options.goals_on_unknown == "dead_letter"
        self._queue = queue
        self._senders = senders
        self._options = options
        self._reports = Reports(destination.name, options, logger)
        last_look = LastLook(options.before_send, destination, queue, self._reports)
        self.agenda = Agenda(queue, self._limits, options.linger, last_look)
        """What is to be sent."""
        self._gate = Gate(
            concurrency=self._limits.concurrency,
            calls_per_minute=self._limits.calls_per_minute,
            failures_to_open=options.breaker_failures,
            delay_after=self._backoff,
            pause_interval=options.pause_interval,
        )
        self._flying: dict[Attempt, tuple[Job, VendorRequest]] = {}
        self._refusals = 0
        self._watch = KeyWatch(destination, options.pause_interval)
        self._last_good_launch = float("-inf")
        self._resumed = False
        self.deadline = float("inf")
        """When the process ends, on the monotonic clock; no call may take longer."""

    @property
    def state(self) -> str:
        """The gate's state, for statistics."""
        return self._gate.state(time.monotonic())

    def resume(self) -> None:
        """Send again at once, after a pause or failures. May be called from any thread."""
        self._resumed = True

    def turn(self) -> float:
        """Do everything that can be done now.

        Returns:
            Seconds after which there is something to do again, if nothing happens before.
        """
        for outcome in self._senders.finished():
            if outcome.attempt in self._flying:
                flown, call = self._flying.pop(outcome.attempt)
                self._guarded(self._come_back, flown, call, outcome.result)
        next_look = self._queue.maintain()
        if evicted := self._queue.pop_evicted_count():
            self._reports.log(
                logging.WARNING,
                f"the queue is full, {evicted} records were dropped; the vendor is down or slower than the app",
                key="queue_full",
            )
        while (now := time.monotonic()) < self.deadline:
            if test_mode.active and test_mode.blocks(self._destination):
                return _BLOCKED_INTERVAL
            self._go_on_if_changed(now)
            wait = self._gate.delay(now, self._senders.in_flight)
            if wait <= 0:
                job, wait = self.agenda.next(now, probing=self._gate.state(now) != "closed")
                if job is not None:
                    self._guarded(self._launch, job, now)
                    continue
            return max(min(wait, min(self._watch.next_look, self._senders.next_deadline, next_look) - now), 0.0)
        return max(self._senders.next_deadline - now, 0.0)

    # --- what goes -------------------------------------------------------------------------------

    def _launch(self, job: Job, now: float) -> None:
        if not self._expire(job) or not self.agenda.admit(job) or (call := self._render(job, now)) is None:
            return
        for note in call.warnings:
            self._reports.log(logging.WARNING, note)
        held = self._queue.mark_in_flight(job.entries, durably=self._park_unknown)
        if held is None:
            self.agenda.put_off(job, now + self._backoff(1))
            return
        if len(held) < len(job.entries):  # the others were given back while the call was prepared
            job.take()
            if held:
                self.agenda.put_parts([job.part(held)])
            return
        job.launched_at = now
        job.attempts += 1
        job.last_attempt = job.rendered_at
        job.first_attempt = job.first_attempt or job.rendered_at
        limits = TimeLimits(
            connect=self._options.connect_timeout, read=self._options.read_timeout, total=self._options.total_timeout
        ).within(self.deadline - now)
        self._gate.sent(now)
        attempt = self._senders.launch(compressed(call, self._limits.gzip_above), limits)
        self._flying[attempt] = job, call

    def _render(self, job: Job, now: float) -> VendorRequest | None:
        """The job's call. None when it takes several, which are jobs of their own then, or when none can be made."""
        job.call = None
        job.rendered_at = time.time()
        try:
            calls = list(self._destination.build_requests(job.entries, now=job.rendered_at))
            sizes = [len(call.entries) for call in calls]
            if sum(sizes) != len(job.entries) or 0 in sizes:
                raise ValueError("calls() must carry each entry exactly once")
        except ConfigurationError as error:
            self._judged(job, Verdict(action=Action.PAUSE, message=str(error)), None, now)
            return None
        except _ANY as error:
            self._judged(
                job, Verdict(action=Action.BISECT, message=f"{type(error).__name__} in build_requests()"), None, now
            )
            return None
        if len(calls) > 1:
            job.take()
            self.agenda.put_parts([job.part(call.entries) for call in calls])
            return None
        [job.call] = calls
        return job.call

    def _expire(self, job: Job) -> bool:
        """Bury what is too old. Returns whether anything is left."""
        oldest = time.time() - self._max_age
        if any(entry.enqueued_at < oldest for entry in job.entries):
            entries = job.entries
            job.entries = [entry for entry in entries if entry.enqueued_at >= oldest]
            expired = [entry for entry in entries if entry.enqueued_at < oldest]
            self._bury(job, expired, "expired", f"not delivered within {self._max_age:g} s", None)
        return bool(job.entries)

    # --- what came back --------------------------------------------------------------------------

    def _come_back(self, job: Job, call: VendorRequest, result: VendorResponse | TransportError) -> None:
        now = time.monotonic()
        if isinstance(result, VendorResponse):
            try:
                verdict = self._destination.classify(call, result)
            except _ANY as error:
                verdict = Verdict(action=Action.UNKNOWN, message=f"{type(error).__name__} in classify()")
            self._judged(job, verdict, result, now)
        else:
            action = Action.UNKNOWN
            if isinstance(result, NotSent):
                action = Action.RETRY
            elif isinstance(result, Unsendable):
                action = Action.PAUSE
            self._judged(job, Verdict(action=action, message=str(result)), None, now)

    def _judged(self, job: Job, verdict: Verdict, reply: VendorResponse | None, now: float) -> None:
        verdict = discreet(verdict, self._destination)
        status = reply.status if reply else None
        if self._park_unknown and verdict.action not in {Action.DELIVERED, Action.UNKNOWN}:
            self._queue.clear_in_flight(job.entries)
        match verdict.action:
            case Action.DELIVERED:
                self._deliver(job, verdict, status, now)
            case Action.UNKNOWN if self._park_unknown:
                self._gate.failed(now, hold=self._hold(reply))
                self._bury(job, job.take(), "unknown", verdict.message, status)
            case Action.RETRY | Action.UNKNOWN:
                self._retry(job, verdict, reply, now)
            case Action.SPLIT | Action.BISECT if len(job.entries) > 1:
                self.agenda.put_parts(job.halves())
            case Action.SPLIT:
                self._bury(job, job.take(), "too_large", verdict.message, status)
            case Action.BISECT if self._refusals + 1 < _REFUSALS_TO_PAUSE:
                self._refusals += 1
                self._bury(job, job.take(), "refused", verdict.message, status)
            case Action.PAUSE if self._is_to_blame(job):
                self._blame(job, verdict, status, now)
            case _:
                self._pause(job, verdict, status, now)

    def _deliver(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        if self._gate.state(now) != "closed":
            self._reports.log(logging.INFO, "delivering again", key="recovered")
        self._gate.succeeded()
        self._refusals = 0
        self._watch.accepted()
        self._last_good_launch = max(self._last_good_launch, job.launched_at)
        self._queue.set_last_error(None)
        good = [entry for i, entry in enumerate(job.entries) if i not in verdict.rejected]
        bad = [(entry, verdict.rejected[i]) for i, entry in enumerate(job.entries) if i in verdict.rejected]
        job.take()
        self.agenda.settled(good)
        self._queue.ack(good)
        for entry, message in bad:
            self._bury(job, [entry], "refused", message, status)

    def _retry(self, job: Job, verdict: Verdict, reply: VendorResponse | None, now: float) -> None:
        hold = self._hold(reply)
        self._gate.failed(now, hold=hold)
        self.agenda.put_off(job, now + (hold or self._backoff(job.attempts)))
        self._queue.set_last_error(verdict.message)
        if self._gate.state(now) != "closed":
            self._reports.log(
                logging.WARNING,
                f"unreachable or failing ({verdict.message}); records are kept and sent when it is back",
                key="unreachable",
            )
        status = reply.status if reply else None
        self._reports.problem("unreachable", verdict.message, records=len(job.entries), status=status)

    def _pause(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        is_new = self._gate.state(now) != "paused"
        self._gate.pause(now)
        job.refused_at = now
        self._watch.refused(job, now)
        self.agenda.put_off(job, now)
        self._queue.set_last_error(verdict.message)
        options = ", ".join(sorted(getattr(self._destination, "secrets", ()))) or "its key"
        url = discreet_url(job.call.url, self._destination) if job.call else "its address"
        if is_new:
            self._reports.log(
                logging.ERROR,
                f"paused, because the vendor refuses our calls ({verdict.message}); check {options} and the address "
                f"{url}. Records are kept; the next try is in {self._options.pause_interval:g} s, or as soon as a "
                "key changes",
                key="paused",
            )
        self._reports.problem("paused", verdict.message, records=len(job.entries), status=status)

    def _is_to_blame(self, job: Job) -> bool:
        """Whether the job itself is wrong, for a call that was sent after its refusal went through."""
        if job.blamed >= _REFUSALS_TO_BURY:
            return True
        return job.refused_at is not None and self._last_good_launch > job.refused_at

    def _blame(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        job.blamed += 1
        job.refused_at = now
        if job.blamed < _REFUSALS_TO_BURY:
            self.agenda.put_off(job, now + self._backoff(job.attempts))
        elif len(job.entries) > 1:
            self.agenda.put_parts(job.halves())
        else:
            self._bury(job, job.take(), "refused", verdict.message, status)

    def _bury(self, job: Job, entries: Sequence[QueuedRecord], reason: str, message: str, status: int | None) -> None:
        """Make dead letters of entries that have been taken from the job."""
        if not entries:
            return
        self.agenda.settled(entries)
        self._queue.dead_letter(job.letters(self._destination.name, entries, reason, message, status))
        self._queue.set_last_error(message)
        what = {
            "unknown": "nobody knows whether they arrived, and sending them again might count them twice",
            "expired": "they were too old",
            "internal_error": "of a fault of ours",
        }.get(reason, "the vendor refuses them")
        self._reports.log(
            logging.WARNING,
            f"{len(entries)} records became dead letters ({reason}), because {what}: {message}",
            key=f"dead:{reason}",
        )
        self._reports.problem(reason, message, records=len(entries), status=status)

    # --- small things ----------------------------------------------------------------------------

    def _guarded(self, step: Callable[..., None], job: Job, *arguments: object) -> None:
        """Take a step with a job. Whatever goes wrong, the job's entries are accounted for."""
        try:
            step(job, *arguments)
        except BaseException as error:
            self._reports.fault(error)
            if job not in self.agenda and all(job is not flown for flown, _ in self._flying.values()):
                self._bury(job, job.take(), "internal_error", f"{type(error).__name__} in delivery", None)
            if not isinstance(error, _ANY):
                raise

    def _go_on_if_changed(self, now: float) -> None:
        if self._resumed:
            self._resumed = False
            self._watch.forget()
            self.agenda.bring_forward(now)
        elif not self._watch.has_changed(now):
            return
        self._gate.resume()

    def _hold(self, reply: VendorResponse | None) -> float | None:
        header = reply.headers.get("retry-after") if reply else None
        return retry_after(header, now=time.time(), limit=self._options.retry_after_max)

    def _backoff(self, failures: int) -> float:
        return backoff(failures, base=self._options.backoff_base, limit=self._options.backoff_max, random=_chance)


def _chance() -> float:
    # Not the random module, which takes longer to import than all of delivery.
    return int.from_bytes(urandom(4), "big") / 2**32
