"""Forms batches, sends them when the gate allows, and applies the verdicts on their replies.

Used by one thread at a time, which calls `run_once` again and again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from os import urandom

from sessionsight.callbacks import run
from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.before_send import BeforeSendFilter
from sessionsight.delivery.credential_watch import CredentialWatcher
from sessionsight.delivery.options import DeliveryOptions, DeliveryProblem
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.redaction import redact_secrets, redact_url
from sessionsight.delivery.retry import SendGate, backoff, parse_retry_after
from sessionsight.delivery.schedule import Job, JobSchedule
from sessionsight.delivery.sender_pool import Attempt, Sender
from sessionsight.delivery.transport import InvalidCall, NotSent, TimeLimits, TransportError
from sessionsight.destinations.base import Action, Destination, VendorRequest, VendorResponse, Verdict
from sessionsight.errors import ConfigurationError
from sessionsight.log import LaneLogger
from sessionsight.test_mode import test_mode

__all__ = ["Dispatcher"]

# Single records rejected in a row, with nothing accepted between, that mean a wrong key or address.
_REJECTIONS_TO_PAUSE = 3
# Rejections of the key after which the record itself is at fault, because other calls have succeeded since.
_MAX_REJECTIONS = 2
# Seconds between checks whether a test still suppresses delivery; nothing wakes a lane when that ends.
_SUPPRESSED_INTERVAL = 0.05
# Exceptions of callbacks and destinations. SystemExit would end the thread silently.
_ANY = (Exception, SystemExit)


def _random() -> float:
    # Not the random module, which takes longer to import than all of delivery.
    return int.from_bytes(urandom(4), "big") / 2**32


class Dispatcher:
    """Decides what one lane sends, and what happens to it then.

    Args:
        destination: The lane's vendor.
        queue: The lane's queue.
        sender: Sends the calls.
        options: Time limits and callbacks.
        logger: For problems with the vendor.
        linger: Seconds that a ready record may wait for others to share its call.
        clock: The time of ages, retries and pauses.
        random: Returns numbers from 0 up to 1, which give retries their jitter.
    """

    def __init__(
        self,
        destination: Destination,
        queue: LaneQueue,
        sender: Sender,
        options: DeliveryOptions,
        logger: LaneLogger,
        *,
        linger: float,
        clock: Clock = time,
        random: Callable[[], float] = _random,
    ) -> None:
        self._clock = clock
        self._random = random
        self._destination = destination
        self._limits = destination.limits
        self._max_age = self._limits.max_age or options.max_age
        self._at_most_once = not self._limits.idempotent and options.goals_on_unknown == "dead_letter"
        self._queue = queue
        self._sender = sender
        self._options = options
        self._logger = logger
        before_send = BeforeSendFilter(options.before_send, destination, queue, self._logger)
        self.schedule = JobSchedule(queue, self._limits, linger, before_send)
        self._gate = SendGate(
            concurrency=self._limits.concurrency,
            calls_per_minute=self._limits.calls_per_minute,
            failures_to_open=options.breaker_failures,
            delay_after=self._backoff,
            pause_interval=options.pause_interval,
        )
        self._in_flight: dict[Attempt, tuple[Job, VendorRequest]] = {}
        self._rejections = 0
        self._credentials = CredentialWatcher(destination, options.pause_interval)
        self._last_success_started = float("-inf")
        self._resumed = False
        self._erased: dict[str, float] = {}
        """Erased users, with the time of the erasure."""
        self.deadline = float("inf")
        """The end of the process, on the monotonic clock; no call may take longer."""

    @property
    def state(self) -> str:
        """The state of the gate, for statistics."""
        return self._gate.state(self._clock.monotonic())

    def resume(self) -> None:
        """End a pause or a backoff. May be called from any thread."""
        self._resumed = True

    def erase(self, user_id: str) -> None:
        """Drop a user's records of until now that would be sent, also again after a failure. For any thread."""
        now = self._clock.time()
        expired = [user for user, erased_at in self._erased.copy().items() if erased_at < now - self._max_age]
        for user in expired:
            self._erased.pop(user, None)
        self._erased[user_id] = now

    def run_once(self) -> float:
        """Handle results and send what can be sent now.

        Returns:
            Seconds until the next call is needed, unless the lane is woken earlier.
        """
        for attempt, result in self._sender.completed():
            if attempt in self._in_flight:
                sent, call = self._in_flight.pop(attempt)
                self._guarded(self._handle_result, sent, call, result)
        next_maintenance = self._queue.maintain()
        if evicted := self._queue.pop_evicted_count():
            self._logger.log(
                logging.WARNING,
                f"the queue is full, {evicted} records were dropped; the vendor is down or slower than the app",
                key="queue_full",
            )
        while (now := self._clock.monotonic()) < self.deadline:
            if test_mode.active and test_mode.blocks(self._destination):
                return _SUPPRESSED_INTERVAL
            self._resume_if_credentials_changed(now)
            wait = self._gate.delay(now, self._sender.in_flight)
            if wait <= 0:
                job, wait = self.schedule.next(now, probing=self._gate.state(now) != "closed")
                if job is not None:
                    self._guarded(self._send, job, now)
                    continue
            return max(
                min(wait, min(self._credentials.next_check, self._sender.next_deadline, next_maintenance) - now), 0.0
            )
        return max(self._sender.next_deadline - now, 0.0)

    # --- sending ---------------------------------------------------------------------------------

    def _send(self, job: Job, now: float) -> None:
        self._drop_erased(job)
        if not self._expire(job) or not self.schedule.admit(job) or (call := self._render(job, now)) is None:
            return
        for note in call.warnings:
            self._logger.log(logging.WARNING, note)
        ours = self._queue.mark_in_flight(job.entries, durably=self._at_most_once)
        if ours is None:
            self.schedule.schedule_retry(job, now + self._backoff(1))
            return
        if len(ours) < len(job.entries):  # the others were given back while the call was prepared
            kept = {entry.record.random for entry in ours}
            self.schedule.unblock([entry for entry in job.pop_entries() if entry.record.random not in kept])
            if ours:
                self.schedule.push_front([job.subset(ours)])
            return
        job.sent_at = now
        job.attempts += 1
        job.last_attempt = job.rendered_at
        job.first_attempt = job.first_attempt or job.rendered_at
        limits = TimeLimits(
            connect=self._options.connect_timeout, read=self._options.read_timeout, total=self._options.total_timeout
        ).within(self.deadline - now)
        self._gate.record_call(now)
        attempt = self._sender.submit(call, limits)
        self._in_flight[attempt] = job, call

    def _render(self, job: Job, now: float) -> VendorRequest | None:
        """Return the job's call. None if it needs several, which become jobs of their own, or if none can be made."""
        job.call = None
        job.rendered_at = self._clock.time()
        try:
            calls = list(self._destination.build_requests(job.entries, now=job.rendered_at))
            sizes = [len(call.entries) for call in calls]
            if sum(sizes) != len(job.entries) or 0 in sizes:
                raise ValueError("build_requests() must carry each entry exactly once")
        except ConfigurationError as error:
            self._apply_verdict(job, Verdict(action=Action.PAUSE, message=str(error)), None, now)
            return None
        except _ANY as error:
            self._apply_verdict(
                job, Verdict(action=Action.BISECT, message=f"{type(error).__name__} in build_requests()"), None, now
            )
            return None
        if len(calls) > 1:
            job.pop_entries()
            self.schedule.push_front([job.subset(call.entries) for call in calls])
            return None
        [job.call] = calls
        return job.call

    def _drop_erased(self, job: Job) -> None:
        """Drop entries of users who were erased after these were enqueued."""
        if self._erased:
            erased = [entry for entry in job.entries if entry.enqueued_at <= self._erased.get(entry.user_id or "", 0)]
            if erased:
                dropped = {id(entry) for entry in erased}
                job.entries = [entry for entry in job.entries if id(entry) not in dropped]
                self.schedule.unblock(erased)
                self._queue.drop(erased, DropReason.ERASED)

    def _expire(self, job: Job) -> bool:
        """Dead-letter entries over the maximum age. Return True if any entry is left."""
        oldest = self._clock.time() - self._max_age
        if any(entry.enqueued_at < oldest for entry in job.entries):
            entries = job.entries
            job.entries = [entry for entry in entries if entry.enqueued_at >= oldest]
            expired = [entry for entry in entries if entry.enqueued_at < oldest]
            self._dead_letter(job, expired, "expired", f"not delivered within {self._max_age:g} s", None)
        return bool(job.entries)

    # --- results ---------------------------------------------------------------------------------

    def _handle_result(self, job: Job, call: VendorRequest, result: VendorResponse | TransportError) -> None:
        now = self._clock.monotonic()
        if isinstance(result, VendorResponse):
            try:
                verdict = self._destination.classify(call, result)
            except _ANY as error:
                verdict = Verdict(action=Action.UNKNOWN, message=f"{type(error).__name__} in classify()")
            self._apply_verdict(job, verdict, result, now)
        else:
            action = Action.UNKNOWN
            if isinstance(result, NotSent):
                action = Action.RETRY
            elif isinstance(result, InvalidCall):
                action = Action.PAUSE
            self._apply_verdict(job, Verdict(action=action, message=str(result)), None, now)

    def _apply_verdict(self, job: Job, verdict: Verdict, reply: VendorResponse | None, now: float) -> None:
        verdict = redact_secrets(verdict, self._destination)
        status = reply.status if reply else None
        resolved = {Action.DELIVERED, Action.UNKNOWN} if self._at_most_once else {Action.DELIVERED}
        if verdict.action not in resolved:
            self._queue.clear_in_flight(job.entries, durably=self._at_most_once)
        match verdict.action:
            case Action.DELIVERED:
                self._deliver(job, verdict, status, now)
            case Action.UNKNOWN if self._at_most_once:
                self._gate.record_failure(now, retry_after=self._retry_after(reply))
                self._dead_letter(job, job.pop_entries(), "unknown", verdict.message, status)
            case Action.RETRY | Action.UNKNOWN:
                self._retry(job, verdict, reply, now)
            case Action.SPLIT | Action.BISECT if len(job.entries) > 1:
                self.schedule.push_front(job.split())
            case Action.SPLIT:
                self._dead_letter(job, job.pop_entries(), "too_large", verdict.message, status)
            case Action.BISECT if self._rejections + 1 < _REJECTIONS_TO_PAUSE:
                self._rejections += 1
                self._dead_letter(job, job.pop_entries(), "refused", verdict.message, status)
            case Action.PAUSE if self._is_poisoned(job):
                self._reject_job(job, verdict, status, now)
            case _:
                self._pause(job, verdict, status, now)

    def _deliver(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        if self._gate.state(now) != "closed":
            self._logger.log(logging.INFO, "delivering again", key="recovered")
        self._gate.record_success()
        self._rejections = 0
        self._credentials.succeeded()
        self._last_success_started = max(self._last_success_started, job.sent_at)
        self._queue.set_last_error(None)
        good = [entry for i, entry in enumerate(job.entries) if i not in verdict.rejected]
        bad = [(entry, verdict.rejected[i]) for i, entry in enumerate(job.entries) if i in verdict.rejected]
        job.pop_entries()
        self.schedule.unblock(good)
        self._queue.ack(good)
        for entry, message in bad:
            self._dead_letter(job, [entry], "refused", message, status)

    def _retry(self, job: Job, verdict: Verdict, reply: VendorResponse | None, now: float) -> None:
        retry_after = self._retry_after(reply)
        self._gate.record_failure(now, retry_after=retry_after)
        self.schedule.schedule_retry(job, now + (retry_after or self._backoff(job.attempts)))
        self._queue.set_last_error(verdict.message)
        if self._gate.state(now) != "closed":
            self._logger.log(
                logging.WARNING,
                f"unreachable or failing ({verdict.message}); records are kept and sent when it is back",
                key="unreachable",
            )
        status = reply.status if reply else None
        self._report_problem("unreachable", verdict.message, records=len(job.entries), status=status)

    def _pause(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        is_new = self._gate.state(now) != "paused"
        self._gate.pause(now)
        job.rejected_at = now
        self._credentials.start(job, now)
        self.schedule.schedule_retry(job, now)
        self._queue.set_last_error(verdict.message)
        cause = f"no request can be sent ({verdict.message})"
        if job.call is not None and status is not None:
            options = ", ".join(sorted(getattr(self._destination, "secrets", ()))) or "its key"
            url = redact_url(job.call.url, self._destination)
            cause = f"the vendor rejects our calls ({verdict.message}); check {options} and the address {url}"
        if is_new:
            self._logger.log(
                logging.ERROR,
                f"paused, because {cause}. Records are kept; the next try is in {self._options.pause_interval:g} s, or "
                "as soon as a key changes",
                key="paused",
            )
        self._report_problem("paused", verdict.message, records=len(job.entries), status=status)

    def _is_poisoned(self, job: Job) -> bool:
        """Return True if this job is at fault: a call sent after its rejection has succeeded."""
        if job.rejections >= _MAX_REJECTIONS:
            return True
        return job.rejected_at is not None and self._last_success_started > job.rejected_at

    def _reject_job(self, job: Job, verdict: Verdict, status: int | None, now: float) -> None:
        job.rejections += 1
        job.rejected_at = now
        if job.rejections < _MAX_REJECTIONS:
            self.schedule.schedule_retry(job, now + self._backoff(job.attempts))
        elif len(job.entries) > 1:
            self.schedule.push_front(job.split())
        else:
            self._dead_letter(job, job.pop_entries(), "refused", verdict.message, status)

    def _dead_letter(
        self, job: Job, entries: Sequence[QueuedRecord], reason: str, message: str, status: int | None
    ) -> None:
        """Turn entries that were popped from the job into dead letters."""
        if not entries:
            return
        self.schedule.unblock(entries)
        self._queue.dead_letter(job.dead_letters(self._destination.name, entries, reason, message, status))
        self._queue.set_last_error(message)
        why = {
            "unknown": "they may have arrived, and sending them again might count them twice",
            "expired": "they were too old",
            "internal_error": "of an internal error",
        }.get(reason, "the vendor rejects them")
        self._logger.log(
            logging.WARNING,
            f"{len(entries)} records became dead letters ({reason}), because {why}: {message}",
            key=f"dead:{reason}",
        )
        self._report_problem(reason, message, records=len(entries), status=status)

    # --- helpers ---------------------------------------------------------------------------------

    def _guarded(self, step: Callable[..., None], job: Job, *arguments: object) -> None:
        """Run a step with a job, and dead-letter the job's entries if an error leaves them in no other place."""
        try:
            step(job, *arguments)
        except BaseException as error:
            self._logger.internal_error(error)
            if job not in self.schedule and all(job is not sent for sent, _ in self._in_flight.values()):
                self._dead_letter(job, job.pop_entries(), "internal_error", f"{type(error).__name__} in delivery", None)
            if not isinstance(error, _ANY):
                raise

    def _report_problem(self, reason: str, message: str, *, records: int, status: int | None) -> None:
        """Call `on_error`, if there is one."""
        on_error = self._options.on_error
        if on_error is None or not records:
            return
        name = self._destination.name
        try:
            run(
                on_error,
                DeliveryProblem(destination=name, reason=reason, message=message, records=records, status=status),
            )
        except _ANY as error:
            self._logger.log(logging.ERROR, f"on_error failed with {type(error).__name__}: {error}", key="on_error")

    def _resume_if_credentials_changed(self, now: float) -> None:
        if self._resumed:
            self._resumed = False
            self._credentials.stop()
            self.schedule.retry_now(now)
        elif not self._credentials.has_changed(now):
            return
        self._gate.resume()

    def _retry_after(self, reply: VendorResponse | None) -> float | None:
        header = reply.headers.get("retry-after") if reply else None
        return parse_retry_after(header, now=self._clock.time(), limit=self._options.retry_after_max)

    def _backoff(self, failures: int) -> float:
        return backoff(failures, base=self._options.backoff_base, limit=self._options.backoff_max, random=self._random)
