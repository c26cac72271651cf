"""RQ: each job runs under the tracking context of the code that enqueued it.

Example:
    >>> from rq import Queue, Worker
    >>> connect(Queue, Worker)
"""

from __future__ import annotations

from typing import Any

from rq import Queue
from rq.job import Job
from rq.worker import BaseWorker

from sessionsight.delivery.lifecycle import may_skip_exit_handlers
from sessionsight.errors import ConfigurationError, describe
from sessionsight.propagation._jobs import KEY, check_target, current_carrier, job

__all__ = ["TrackedJob", "connect", "disconnect"]

Target = Queue | BaseWorker | type[Queue] | type[BaseWorker]


class TrackedJob(Job):
    """A job that keeps the context of the code that enqueued it in its `meta`, and runs under it.

    RQ accepts it wherever a job class is configured, such as `rq worker --job-class
    sessionsight.propagation.rq.TrackedJob`. A job class of your own can derive from it.
    """

    @classmethod
    def create(cls, *arguments: Any, **options: Any) -> Job:
        """Create a job under the current context. The arguments are those of RQ's `Job.create`."""
        created = super().create(*arguments, **options)
        if (carrier := current_carrier()) is not None:
            created.meta = {KEY: carrier, **created.meta}
        return created

    def perform(self) -> Any:
        """Run the job under its context; in a work horse, wait for delivery, because it exits by `os._exit`."""
        self.func  # noqa: B018  # imports the job's module, which may set up the client
        with job(self.meta.get(KEY), flush=may_skip_exit_handlers()):
            return super().perform()


def connect(*targets: Target) -> None:
    """Run the jobs of queues and workers under the context of the code that enqueues them.

    Publishers connect their queues, a worker's process its worker and the queues that its jobs publish to. In a job
    `sessionsight.current()` returns analytics under its context, whose records are delivered before the work horse
    exits. A retry has the context of the first attempt, and a job that is enqueued by a job has that of its publisher.
    Without a context, as from cron, the context in the job is empty.

    Args:
        *targets: Queues and workers, or their classes, such as `Queue` and `Worker`, for all instances that have no job
            class of their own. If one is connected already, nothing changes.

    Raises:
        ConfigurationError: One is neither a queue nor a worker, or has a job class that does not derive from
            `TrackedJob`.
    """
    for target in targets:
        if not (isinstance(target, type) and issubclass(target, Queue | BaseWorker)):
            check_target(target, Queue, BaseWorker)
        if target.job_class is Job:
            target.job_class = TrackedJob
        elif not issubclass(target.job_class, TrackedJob):
            raise ConfigurationError(
                f"connect(): the job class {target.job_class.__name__} of {describe(target)} must derive from "
                "sessionsight.propagation.rq.TrackedJob in place of rq.job.Job"
            )


def disconnect(*targets: Target) -> None:
    """Undo `connect`. Jobs that were enqueued before keep their context, but run without it.

    Args:
        *targets: As in `connect`. If one is not connected, or has a job class of its own, nothing changes.
    """
    for target in targets:
        if target.job_class is TrackedJob:
            target.job_class = Job
