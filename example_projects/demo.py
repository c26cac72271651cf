"""Starts one of the example shops and the inspector, which emulates all four vendors, on this machine only.

    python example_projects/demo.py --shop django

Click through the shop and watch the records arrive, here or on the inspector's page; Ctrl-C ends both. --open opens
both pages in a browser.
With --check it clicks by itself, compares what arrived with what should have, and exits 0 or 1.

The shop calls a stock service, which is started as well. If CELERY_BROKER_URL is set, such as to
redis://127.0.0.1:6379/0, a Celery worker runs the shop's jobs; otherwise the shop runs them itself.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from sessionsight.errors import ConfigurationError
from sessionsight.inspector import console
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.options import DEFAULT_PORT, Options
from sessionsight.inspector.server import RunningInspector, run_in_thread
from sessionsight.inspector.templating import environment

HERE = Path(__file__).resolve().parent
# For the page's scripts; the server's keys are in environment().
PUBLIC_KEYS = {"SESSIONSIGHT_PUBLIC_API_KEY": "sessionsight_pub_local", "SAYTICS_WRITE_KEY": "sk_write_local"}
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
# Linux gives connections those from 32768, so that none can take the shop's before it listens.
PORTS = range(21_000, 32_000)

COMMANDS = {
    "django": ["shop_django/manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "flask": ["-m", "flask", "--app", "shop_flask/app", "run", "--port", "{port}"],
    "fastapi": ["-m", "uvicorn", "shop_fastapi.app:app", "--port", "{port}"],
}
STOCK = ["-m", "uvicorn", "stock.app:app", "--port", "{port}"]
WORKER = ["-m", "celery", "--app", "shop_common.worker", "worker", "--pool", "solo", "--loglevel", "info"]


class ShopError(Exception):
    """The shop did not start, or did not stop by itself."""


def inspector_at(port: int) -> RunningInspector:
    """At its usual place, or at another, when that is taken."""
    try:
        return run_in_thread(Options(port=port))
    except ConfigurationError:
        return run_in_thread()


@contextmanager
def serving(shop: str, port: int, inspector: RunningInspector) -> Iterator[tuple[str, str]]:
    """The shop and its services, ready to answer: the shop's address, and the log, which is shown if one fails."""
    stock_port = free_port(0)
    url, stock_url = f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{stock_port}/"
    with (
        tempfile.NamedTemporaryFile(prefix=f"shop-{shop}-", suffix=".log") as log,
        tempfile.TemporaryDirectory(prefix=f"shop-{shop}-") as data,
    ):
        environ = {"SHOP_DATA": data, **os.environ, **environment(inspector.url), **PUBLIC_KEYS}
        start = partial(running, environ={**environ, "STOCK_URL": stock_url, "NO_PROXY": "127.0.0.1"}, log=log)
        try:
            with (
                start(WORKER) if "CELERY_BROKER_URL" in environ else nullcontext(),
                start(STOCK, stock_port) as stock,
                start(COMMANDS[shop], port) as process,
            ):
                wait_until_ready(stock, stock_url)
                wait_until_ready(process, url)
                yield url, log.name
        except ShopError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


@contextmanager
def running(
    command: list[str], port: int = 0, *, environ: dict[str, str], log: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *(part.format(port=port) for part in command)],
        cwd=HERE,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C reaches us alone, and the shop is stopped before the inspector
    )
    try:
        yield process
        stop(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    opener = build_opener(ProxyHandler({}))  # what is on this machine needs no proxy
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ShopError(f"the shop ended with code {process.returncode} instead of starting; its log is above")
        try:
            opener.open(url, timeout=START_TIMEOUT).close()
            return
        except HTTPError as error:
            raise ShopError(f"the shop's first page failed with {error.code}; its log is above") from None
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise ShopError(f"the shop did not answer within {START_TIMEOUT:.0f} s; its log is above")


def stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does it, so that the shop delivers what it still has; twice, if once is not enough."""
    for again in (True, False):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            if again:
                print(f"the shop did not stop within {STOP_TIMEOUT:.0f} s, once more", file=sys.stderr)
        else:
            return
    process.send_signal(signal.SIGABRT)  # shows in the log where each of its threads is
    process.wait(STOP_TIMEOUT)
    raise ShopError(f"the shop did not stop within {2 * STOP_TIMEOUT:.0f} s; its log is above")


def free_port(port: int) -> int:
    """This port, or any for 0."""
    reason = ""
    for chosen in [port] if port else random.sample(PORTS, 20):
        try:
            socket.create_server(("127.0.0.1", chosen)).close()
        except OSError as error:
            reason = str(error.strerror)
        else:
            return chosen
    where = port or f"{PORTS.start} to {PORTS.stop - 1}"
    raise ShopError(f"port {where} cannot be used: {reason}; another --port may be free")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def show(shop: str, port: int, *, in_browser: bool) -> None:
    colour = sys.stdout.isatty()
    printer = console.printer(sys.stdout, lambda record: console.line(record, colour=colour))
    with (
        inspector_at(DEFAULT_PORT) as inspector,
        inspector.store.listening(printer),
        serving(shop, port, inspector) as (url, log),
        suppress(KeyboardInterrupt),
    ):
        print(f"\nAn example shop on {shop}, and the inspector, which emulates all four vendors:\n")
        print(f"  Shop       {url}")
        print(f"  Inspector  {inspector.url}/")
        print(f"  Log        {log}")
        print("\nClick through the shop. Each record arrives here and on the inspector's page. Ctrl-C ends both.\n")
        print(console.HEADING, flush=True)
        for address in (f"{inspector.url}/", url) if in_browser else ():
            webbrowser.open(address)
        while True:
            time.sleep(3600)


def check(shop: str, port: int) -> list[str]:
    """Return the problems after a visit that clicks everything once."""
    from visit import compare, expect, summary, visit

    with run_in_thread() as inspector:
        with serving(shop, port, inspector) as (url, _):
            expected = expect(visit(url))
            deadline = time.monotonic() + 10
            while inspector.store.counts().total < len(expected) and time.monotonic() < deadline:
                time.sleep(0.02)
        # The shop has stopped: whatever it still had has arrived by now as well.
        records = inspector.store.records(Filter(), limit=1000).records
        print(summary(shop, records))
        return compare(expected, records)


def main() -> int:
    parser = argparse.ArgumentParser(description="Start an example shop and see what it sends.")
    parser.add_argument("--shop", choices=COMMANDS, default="django")
    parser.add_argument("--port", type=int, default=0, help="the shop's port; a free one by default")
    parser.add_argument("--check", action="store_true", help="click through the shop, compare, and exit")
    parser.add_argument("--open", action="store_true", help="open both pages in a browser")
    options = parser.parse_args()
    # Whatever ends us, the shop must not stay behind. SIGINT is ignored where a shell starts us in the background.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        port = free_port(options.port)
        if not options.check:
            show(options.shop, port, in_browser=options.open)
            return 0
        problems = check(options.shop, port)
    except ShopError as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        return 130
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
