"""Starts one of the example shops, and a receiver that plays all four vendors, on this machine only.

    python example_projects/demo.py --shop django

Click through the shop and watch the records arrive; Ctrl-C ends both. With --check it clicks by itself,
compares what arrived with what should have, and exits 0 or 1.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from receiver import HEADING, Receiver, environment, print_line

HERE = Path(__file__).resolve().parent
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0

COMMANDS = {
    "django": ["shop_django/manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "flask": ["-m", "flask", "--app", "shop_flask/app", "run", "--port", "{port}"],
    "fastapi": ["-m", "uvicorn", "shop_fastapi.app:app", "--port", "{port}"],
}


class ShopError(Exception):
    """The shop did not start, or did not stop by itself."""


@contextmanager
def receiving(show: bool) -> Iterator[Receiver]:
    receiver = Receiver(show=print_line if show else lambda line: None)
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


@contextmanager
def serving(shop: str, port: int, receiver: Receiver) -> Iterator[tuple[str, str]]:
    """The shop as a process of its own, ready to answer: its address and its log, which is shown when it fails."""
    url = f"http://127.0.0.1:{port}/"
    with tempfile.NamedTemporaryFile(prefix=f"shop-{shop}-", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in COMMANDS[shop])],
            cwd=HERE,
            env={**os.environ, **environment(receiver.url), "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches us alone, and the shop is stopped before the receiver
        )
        try:
            wait_until_ready(process, url)
            yield url, log.name
            stop(process)
        except ShopError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
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
    """As Ctrl-C does it, so that the shop delivers what it still has."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ShopError(f"the shop did not stop within {STOP_TIMEOUT:.0f} s; its log is above") from None


def free_port(port: int) -> int:
    """This port, or any for 0."""
    try:
        with socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise ShopError(f"port {port} cannot be used: {error.strerror}; another --port may be free") from None


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def show(shop: str, port: int) -> None:
    with receiving(show=True) as receiver, serving(shop, port, receiver) as (url, log):
        print_line(f"\nExample shop on {shop}: {url}")
        print_line(f"All records as JSON: {receiver.url}/records")
        print_line(f"The shop's own log: {log}")
        print_line("Ctrl-C ends it all.\n")
        print_line(HEADING)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def check(shop: str, port: int) -> list[str]:
    """What was wrong, after a visit that clicks everything once."""
    from visit import compare, expect, summary, visit

    with receiving(show=False) as receiver:
        with serving(shop, port, receiver) as (url, _):
            expected = expect(visit(url))
            deadline = time.monotonic() + 10
            while len(receiver.records) < len(expected) and time.monotonic() < deadline:
                time.sleep(0.02)
        # The shop has stopped: whatever it still had has arrived by now as well.
        print(summary(shop, receiver.records))
        return compare(expected, receiver.records)


def main() -> int:
    parser = argparse.ArgumentParser(description="Start an example shop and see what it sends.")
    parser.add_argument("--shop", choices=COMMANDS, default="django")
    parser.add_argument("--port", type=int, default=0, help="the shop's port; a free one by default")
    parser.add_argument("--check", action="store_true", help="click through the shop, compare, and exit")
    options = parser.parse_args()
    # Whatever ends us, the shop must not stay behind. SIGINT is ignored where a shell starts us in the background.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        port = free_port(options.port)
        if not options.check:
            show(options.shop, port)
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
