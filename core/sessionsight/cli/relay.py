"""`sessionsight relay`: delivers what other processes have left in a durable spool."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import click

from sessionsight.cli.metrics_server import serve_metrics
from sessionsight.cli.relay_display import Display, display
from sessionsight.cli.report import report
from sessionsight.cli.target import Target, resolve_target, target_options
from sessionsight.delivery.threads import WakeEvent
from sessionsight.diagnosis import Finding, check
from sessionsight.relay import Relay
from sessionsight.spool_url import spool_name

__all__ = ["command"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds between two reads of the ledger.
_INTERVAL = 1.0
_ONCE_INTERVAL = 0.2
_METRICS_ADDRESS = "127.0.0.1:9464"


@click.command("relay")
@target_options
@click.option("--once", is_flag=True, help="Deliver what is in the spool now, then exit.")
@click.option("--lanes", metavar="NAME[,NAME]", help="Deliver only to these destinations.")
@click.option("--check", "check_only", is_flag=True, help="Check the settings and the spool, and deliver nothing.")
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    is_flag=False,
    flag_value=_METRICS_ADDRESS,
    help=f"Serve Prometheus metrics at /metrics; without a value on {_METRICS_ADDRESS}.",
)
def command(
    app: str | None,
    django_settings: str | None,
    lanes: str | None,
    metrics: str | None,
    *,
    once: bool,
    check_only: bool,
) -> None:
    """Deliver what other processes have left in a durable spool, until SIGTERM or Ctrl-C.

    Any number of relays may share a spool. The first signal finishes the calls in flight within `shutdown_timeout` and
    releases all other records; a second one ends the process at once.
    """
    target = resolve_target(app, django_settings)
    chosen = [lane.strip() for lane in (lanes or "").split(",") if lane.strip()]
    if check_only:
        report(lambda: _check(target, chosen), as_json=False)
        return
    relay = Relay(target.client, chosen)
    stop = _Stop()
    metrics_server = serve_metrics(metrics, relay.client) if metrics else nullcontext()
    with metrics_server, display() as shown, stop.at_signals():
        shown.message(f"delivering {', '.join(relay.lanes)} from {spool_name(target.client.settings.spool)}")
        relay.start()
        if once and relay.check() is None:
            relay.drain(done=stop.set)
        problem = _watch(relay, shown, stop, once=once)
        relay.begin_stop()
        shown.message("stopping: calls in flight are completed, all other records are released")
        shown.show(relay.stop(), last=True)
    if problem is not None:
        raise click.ClickException(problem)


def _watch(relay: Relay, shown: Display, stop: _Stop, *, once: bool) -> str | None:
    """Show the progress until the relay must stop, and return why it cannot go on, if that is the reason."""
    waits = quiet = False
    while not stop.wait(_ONCE_INTERVAL if once else _INTERVAL):
        if once and (problem := relay.check()) is not None:
            return f"the spool cannot be used: {problem}"
        if relay.waits_for_spool and not waits:
            shown.message("waiting for the spool")
        waits = relay.waits_for_spool
        if not waits and not (quiet and relay.idle):  # hosted servers bill by command
            progress = relay.progress()
            shown.show(progress)
            pending = [lane for lane in progress if lane.ready or lane.in_flight]
            quiet = not (pending or once)
            if once and pending and all(lane.state != "closed" for lane in pending):
                return f"{sum(lane.ready for lane in pending)} records are left, whose vendors are failing"
    return None


def _check(target: Target, lanes: list[str]) -> list[Finding]:
    findings = [*check(target.client), *target.findings]
    relay = Relay(target.client, lanes)
    problem = relay.check()
    relay.stop(0)
    if problem is None:
        return [*findings, Finding(level="ok", subject="relay", message="the spool can be used")]
    return [*findings, Finding(level="error", subject="relay", message=f"the spool cannot be used: {problem}")]


class _Stop:
    """Set by a signal, or when nothing is left to do."""

    def __init__(self) -> None:
        self._event = WakeEvent()  # a signal handler sets it
        self._set = False

    def set(self) -> None:
        """End all waits, from now on."""
        self._set = True
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, or for this time. Return whether it is set."""
        self._event.wait(seconds)
        return self._set

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        """Set it at the first signal that ends processes; the second one ends the process."""

        def handle(_: int, __: FrameType | None) -> None:
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            self.set()

        before = {each: signal.signal(each, handle) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
