"""A site whose spool is on a disk that is temporarily full, and the outcome of its records.

    python -m tests.chaos.full_disk small-disk /tmp/folder serving
    python -m tests.chaos.full_disk size-limit /tmp/folder starting

It prints a `Report` as JSON. The disk is full for real: a small file system that a greedy neighbour fills, or, where
nothing may be mounted, a bound on the size of the process's files. Each goes with its process.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.util import setup_testing_defaults

import msgspec
from msgspec import Struct

from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import FALLBACK
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.wsgi import ENVIRON_KEY, AnalyticsMiddleware
from tests.chaos.fates import Fate
from tests.chaos.storm import WEATHER, Scene
from tests.core.delivery.spools import SqliteSpool
from tests.support.server import PATIENCE, until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DISK_BYTES = 8 * 1024 * 1024
BUSY = {Fate.BUSY: 1.0}
"""No vendor accepts anything."""
VISITS = 40
KEYED = range(3, VISITS, 10)
"""Visits whose records have a key; they are repeated while the disk is full."""
LARGE = 8 * 1024
"""Bytes of properties that do not fit into any free page of a full disk."""
TIMEOUT = 120.0
"""The timeout of a run in seconds."""


class Report(Struct, frozen=True, kw_only=True):
    """Result of a run."""

    refused: str
    """Error of a write while the disk is full: `ENOSPC`, `EFBIG`."""
    answers: dict[str, int]
    """Responses to visitors by status."""
    full: dict[str, LaneStats]
    """The counters after visits while the disk is full."""
    in_memory: dict[str, int]
    """The number of records of each lane that were in memory by then, or had been there."""
    flushed: bool
    """True if a flush reported that everything was delivered, while the disk was full."""
    end: dict[str, LaneStats]
    """The final counters."""
    bypassed: dict[str, int]
    """The file's counter of records that waited in memory, for each lane."""
    drained: bool
    """True if everything was delivered once there was space."""
    log: list[str]
    problems: list[str]
    """Records that are not accounted for."""


# --- disks ---------------------------------------------------------------------------------------------------


class Disk(Protocol):
    """The disk of the spool, mounted on a folder called `disk`."""

    def fill(self) -> str:
        """Use up all space, and return the name of the system's error."""

    def free(self) -> None:
        """Free the space."""


class SmallDisk:
    """A separate file system. While it is full, another process uses up whatever becomes free."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "neighbour.log"
        self._sated = threading.Event()
        self._neighbour = threading.Thread(target=self._eat, daemon=True)

    def fill(self) -> str:
        """Use up all space, and keep doing so."""
        refused = self._take()
        self._neighbour.start()
        return refused

    def free(self) -> None:
        """Remove the files of the other process."""
        self._sated.set()
        self._neighbour.join(PATIENCE)
        self._file.unlink()

    def _eat(self) -> None:
        while not self._sated.wait(0.0005):
            self._take()

    def _take(self) -> str:
        with self._file.open("ab", buffering=0) as file:
            for _ in range(DISK_BYTES):
                try:
                    file.write(b"x" * 4096)
                except OSError as error:
                    return errno.errorcode[error.errno or 0]
        raise AssertionError(f"{self._file} is not on a small disk")


class SizeLimit:
    """A limit on file sizes, as by `ulimit -f`: no file can exceed the largest existing one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> str:
        """Set the bound."""
        size = max(file.stat().st_size for file in self._folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._before[1]))
        with (self._folder / "probe").open("wb", buffering=0) as file:
            try:
                file.seek(size)
                file.write(b"x")
            except OSError as error:
                return errno.errorcode[error.errno or 0]
        raise AssertionError("there is no limit")

    def free(self) -> None:
        """Remove the bound."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


DISKS: dict[str, Callable[[Path], Disk]] = {"small-disk": SmallDisk, "size-limit": SizeLimit}


@cache
def mounting() -> tuple[str, ...] | None:
    """Return the prefix of a command that can mount file systems in its own namespace; None if it is not permitted."""
    with tempfile.TemporaryDirectory() as folder:
        for prefix in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
            command = [*prefix, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
            with contextlib.suppress(OSError):  # the program is missing
                if subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0:
                    return prefix
    return None


def possible() -> list[str]:
    """Return the disks that can be filled on this machine: at least one."""
    return [disk for disk in DISKS if disk != "small-disk" or mounting()]


# --- the site ------------------------------------------------------------------------------------------------


class Site:
    """A WSGI application and its visitors. Each visit captures an event and a goal, whose tokens contain its number."""

    def __init__(self, scene: Scene) -> None:
        self._app = AnalyticsMiddleware(self._visited, client=scene.client)
        self.answers: Counter[str] = Counter()

    def come(self, visits: Iterable[int], *, large: bool = False) -> Counter[str]:
        """Serve these visits concurrently, and return the captured tokens."""
        visits = list(visits)
        with ThreadPoolExecutor(4) as visitors:
            self.answers.update(visitors.map(lambda visit: self._serve(visit, LARGE if large else 0), visits))
        return Counter(f"token-plain-{visit}" for visit in visits)

    def _serve(self, visit: int, size: int) -> str:
        environ: WSGIEnvironment = {"PATH_INFO": f"/{visit}", "QUERY_STRING": str(size)}
        setup_testing_defaults(environ)
        said: list[str] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            said.append(status)
            return said.append  # type: ignore[return-value]  # never called

        body: Any = self._app(environ, start_response)
        try:
            return " ".join([*said, b"".join(body).decode()])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if hasattr(body, "close"):
                body.close()

    def _visited(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        analytics: Any = environ[ENVIRON_KEY]
        visit, size = int(environ["PATH_INFO"].strip("/")), int(environ["QUERY_STRING"])
        key = f"order:{visit}" if visit in KEYED else None
        analytics.capture(f"token-plain-{visit}", {"note": "x" * size}, user_id="user_1", key=key)
        analytics.goals.increment(f"token-plain-{visit}", session_id="6f1d2c3b", metadata={"n": "x" * size}, key=key)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"welcome"]


# --- scenarios --------------------------------------------------------------------------------------------


def fills_up_while_serving(disk: Disk, folder: Path) -> Report:
    """The disk fills up while the site serves requests."""
    with _scene(folder) as scene, _log() as log:
        site = Site(scene)
        captured = site.come(range(VISITS))
        return _through_it(disk, scene, site, captured, log)


def is_full_at_the_start(disk: Disk, folder: Path) -> Report:
    """The site is restarted while the disk is full; its predecessor has left a file with records."""
    with _scene(folder) as scene:
        captured = Site(scene).come(range(VISITS))
    with _log() as log:
        refused = disk.fill()
        with _scene(folder) as scene:
            return _through_it(disk, scene, Site(scene), captured, log, refused=refused)


def delivers_from_a_file_with_pages_to_spare(disk: Disk, folder: Path) -> Report:
    """The disk fills up while records wait in a file with free pages."""
    with _scene(folder) as scene, _log() as log:
        site, spool = Site(scene), _spool(scene)
        scene.calm()
        captured = site.come(range(VISITS), large=True)
        assert scene.client.flush(2 * PATIENCE)
        spool.store.file.disconnect()  # checkpoints the log
        for vendor in scene.vendors.values():
            vendor.weather(BUSY)
        captured += site.come(range(VISITS, 2 * VISITS))
        refused = disk.fill()
        full = scene.client.stats().lanes
        scene.calm()
        flushed = scene.client.flush(2 * PATIENCE)
        disk.free()
        return _report(scene, site, captured, log, refused=refused, full=full, in_memory={}, flushed=flushed)


HAPPENINGS: dict[str, Callable[[Disk, Path], Report]] = {
    "serving": fills_up_while_serving,
    "starting": is_full_at_the_start,
    "delivering": delivers_from_a_file_with_pages_to_spare,
}


def _through_it(
    disk: Disk, scene: Scene, site: Site, captured: Counter[str], log: list[str], *, refused: str | None = None
) -> Report:
    """Visit the site while the disk is full, at first while no vendor accepts anything; then free the disk."""
    spool = _spool(scene)
    refused = refused or disk.fill()
    captured += site.come([*range(VISITS, 2 * VISITS), *KEYED], large=True)
    full, in_memory = scene.client.stats().lanes, _in_memory(spool)
    scene.calm()
    until(
        lambda: not any(queue.fallback.sendable.pending for queue in spool._lanes.values()), "memory is delivered from"
    )
    flushed = scene.client.flush(0.1)
    disk.free()
    drained = scene.client.flush(2 * PATIENCE)
    captured += site.come(range(2 * VISITS, 3 * VISITS))
    return _report(
        scene, site, captured, log, refused=refused, full=full, in_memory=in_memory, flushed=flushed, drained=drained
    )


def _report(
    scene: Scene, site: Site, captured: Counter[str], log: list[str], *, drained: bool = True, **facts: Any
) -> Report:
    drained &= scene.client.flush(2 * PATIENCE)
    lanes = scene.client.stats().lanes
    problems = [scene.account(name, captured, repeats=True).problems() for name in lanes]
    return Report(
        answers=site.answers,
        end=lanes,
        bypassed={name: _bypassed(_spool(scene), name) for name in lanes},
        drained=drained,
        log=log,
        problems=list(chain.from_iterable(problems)),
        **facts,
    )


def _scene(folder: Path) -> Scene:
    weather, spool = dict.fromkeys(WEATHER, BUSY), f"sqlite:///{folder}/disk/spool.db"
    # A long timeout, so that the full disk is the only reason to keep records in memory.
    return Scene(1, weather, folder, spool=spool, spool_timeout=PATIENCE, goals_on_unknown="retry")


def _spool(scene: Scene) -> SqliteSpool:
    spool: Any = scene.client._engine_for_process()._spool
    return spool  # type: ignore[no-any-return]


def _in_memory(spool: SqliteSpool) -> dict[str, int]:
    in_memory = {}
    for name, queue in spool._lanes.items():
        with queue._transfer_lock:
            in_memory[name] = queue.fallback.pending
            with contextlib.suppress(StoreError):  # a file that was not open before cannot be opened on a full disk
                in_memory[name] += _bypassed(spool, name)
    return in_memory


def _bypassed(spool: SqliteSpool, lane: str) -> int:
    return spool.store.counts(lane)[FALLBACK]


@contextmanager
def _log() -> Iterator[list[str]]:
    """Log messages during the run."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    logger, handler = logging.getLogger("sessionsight"), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)


def run(disk: str, folder: Path, happening: str) -> Report:
    """Run a scenario in a separate process."""
    place = folder / "disk"
    place.mkdir()
    command = [sys.executable, "-m", "tests.chaos.full_disk", disk, str(folder), happening]
    if disk == "small-disk":
        prefix = mounting()
        assert prefix is not None, "nothing can be mounted here"
        mount = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && exec "$@"'
        command = [*prefix, "sh", "-c", mount, str(place), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    print(done.stderr)
    assert done.returncode == 0, f"it ended with {done.returncode}"
    return msgspec.json.decode(done.stdout, type=Report)


def main(disk: str, folder: str, happening: str) -> None:
    """Run a scenario in this process."""
    report = HAPPENINGS[happening](DISKS[disk](Path(folder) / "disk"), Path(folder))
    os.write(sys.stdout.fileno(), msgspec.json.encode(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
