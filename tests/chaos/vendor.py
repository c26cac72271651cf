"""A vendor with faults: a real HTTP server that follows a schedule, and records its requests.

    with Vendor("signal", seed=7, weights=evenly(*REQUESTS, ok=0.5)) as vendor:
        ...
        vendor.calm()

A record is known by the token in its name, `token-...-17`, wherever that stands in a request's body. The diary says of
each request which tokens it carried, whether they were counted, and whether the caller was told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Self

import trustme

from tests.chaos.fates import DOUBTFUL, NAMES, REFUSED, TAKEN, TLS, UNREAD, Fate, Schedule

TOKEN = re.compile(rb"token-[a-z]+-[0-9]+")
POISON = "token-poison-"
"""Tokens with this prefix are always rejected, together with their batch."""

_KEY_IN_BODY = re.compile(rb'"(?:apiKey|publicKey|public_key|key)": ?"([^"]+)"')
_DRIP = 0.02
_LONGEST = 30.0


@dataclass(slots=True)
class Visit:
    """One recorded request."""

    number: int
    """Its number by arrival, from 0."""
    fate: Fate
    worker: str
    """Name of the caller, from an `x-worker` header."""
    tokens: tuple[str, ...] = ()
    read: bool = False
    """True if the vendor has read it completely."""
    counted: bool = False
    told: int | None = None
    """The number of successful responses up to this one."""


class Vendor:
    """Listens on 127.0.0.1, in its own thread.

    Args:
        name: Whose part it plays; part of the seed.
        seed: The run's seed.
        weights: How often which fate comes; calm weather by default.
        host: The name in its address and its certificate.
        authority: Signs its certificate; without one, it speaks plain HTTP.
        gossip: Whether it repeats the caller's credentials in whatever it has to object.
        patience: About how many seconds a late answer takes at most.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        weights: Mapping[Fate, float] | None = None,
        host: str = "127.0.0.1",
        authority: trustme.CA | None = None,
        gossip: bool = False,
        patience: float = 0.05,
    ) -> None:
        self.name = name
        self.diary: list[Visit] = []
        self.stolen = 0
        """Requests that followed a redirect."""
        self._seed = seed
        self._busy_timeout = patience
        self._gossip = gossip
        self._replies = 0
        self._tls = _server_context(authority, host) if authority else None
        self._stranger = _server_context(trustme.CA(), host) if authority else None
        if self._tls is not None:
            self._tls.sni_callback = self._greet
        self.weather(weights)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if authority else 'http'}://{host}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"vendor-{name}", daemon=True)
        self._thread.start()
        self._ready.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(_LONGEST)

    def weather(self, weights: Mapping[Fate, float] | None) -> None:
        """Restart the schedule with these weights."""
        weights = dict(weights or {Fate.OK: 1.0})
        self._schedule = Schedule(
            self._seed, self.name, {fate: weight for fate, weight in weights.items() if fate not in {*TLS, *NAMES}}
        )
        self._connections = Schedule(self._seed, f"{self.name}: connections", _of(weights, *TLS))
        self._lookups = Schedule(self._seed, f"{self.name}: lookups", _of(weights, *NAMES))

    def calm(self) -> None:
        """Let all requests succeed from now on."""
        self.weather(None)

    def is_found(self) -> bool:
        """Return whether the next resolution of its name succeeds; see `names.py`."""
        return self._lookups.draw() is Fate.OK

    # --- recorded requests -------------------------------------------------------------------------

    def counted(self) -> Counter[str]:
        """Return the number of times that each token was counted."""
        return Counter(token for visit in list(self.diary) if visit.counted for token in visit.tokens)

    def fates(self) -> Counter[Fate]:
        """Return the number of requests by outcome."""
        return Counter(visit.fate for visit in list(self.diary))

    # --- the server ----------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve_all())
        self._loop.close()

    async def _serve_all(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._main = task
        server = await asyncio.start_server(self._serve, sock=self._listener)
        self._ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            await _turns()  # a connection's task must start before it is cancelled, or it closes nothing
            calls = [each for each in asyncio.all_tasks() if each is not task]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await _turns()  # lets the connections close

    def _greet(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        """Return the outcome of a TLS handshake."""
        fate = self._connections.draw()
        if fate is Fate.TLS_BROKEN:
            return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)
        if fate is Fate.TLS_STRANGER:
            assert self._stranger is not None
            connection.context = self._stranger
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain = writer.transport
        try:
            if self._tls is not None:
                await writer.start_tls(self._tls)
            while await self._answer(reader, writer):
                pass
            plain.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if not plain.is_closing():
                plain.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, and return whether the connection can be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        if head.split(" ", 2)[1] == "/stolen":
            self.stolen += 1
        visit = Visit(len(self.diary), self._schedule.draw(), headers.get("x-worker", ""))
        self.diary.append(visit)
        if visit.fate in UNREAD:
            return _reset(writer)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        visit.read = True
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        visit.tokens = tuple(dict.fromkeys(token.decode() for token in TOKEN.findall(body)))
        said = _credentials(headers, body) if self._gossip else "no"
        if visit.fate is Fate.TOO_LARGE and len(visit.tokens) == 1:
            visit.fate = Fate.OK
        if visit.fate in TAKEN and any(token.startswith(POISON) for token in visit.tokens):
            await _write(writer, _reply(400, body=_objection(said)))
            return True
        if visit.fate in TAKEN or (visit.fate in DOUBTFUL and self._schedule.coin()):
            visit.counted = True
        if visit.fate in TAKEN:
            return await self._take(visit, writer)
        if visit.fate in REFUSED:
            return await self._refuse(visit.fate, said, writer)
        return await self._puzzle(visit.fate, said, reader, writer)

    async def _take(self, visit: Visit, writer: asyncio.StreamWriter) -> bool:
        """Respond with success, in one of several ways."""
        if visit.fate is Fate.LATE:
            await asyncio.sleep(self._schedule.number(0, self._busy_timeout))
        visit.told, self._replies = self._replies, self._replies + 1
        if visit.fate in {Fate.OK, Fate.LATE}:
            await _write(writer, _reply(200))
            return True
        await _write(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
        if visit.fate is Fate.DRIP_BODY:
            await _drip(writer)
        return False

    async def _refuse(self, fate: Fate, said: str, writer: asyncio.StreamWriter) -> bool:
        """Respond that nothing was counted."""
        status = int(fate[:3])
        headers = {}
        if fate in {Fate.BUSY_SECONDS, Fate.BUSY}:
            headers = {"Retry-After": "1"}
        elif fate is Fate.BUSY_DATE:
            headers = {"Retry-After": formatdate(time.time() + 2, usegmt=True)}
        elif fate is Fate.MOVED:
            headers = {"Location": f"{self.url}/stolen"}
        await _write(writer, _reply(status, headers, _objection(said)))
        return True

    async def _puzzle(self, fate: Fate, said: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Leave the outcome unknown to the caller."""
        match fate:
            case Fate.BROKEN | Fate.GATEWAY:
                await _write(writer, _reply(int(fate), body=_objection(said)))
                return True
            case Fate.RESET_AFTER:
                return _reset(writer)
            case Fate.SILENT:
                await asyncio.wait_for(reader.read(), _LONGEST)  # until the caller closes the connection
            case Fate.GARBAGE:
                await _write(writer, f"\x16\x03\x01 HTCPCP/1.0 {said}\r\n\r\n".encode("latin-1"))
            case Fate.CUT_HEAD:
                await _write(writer, b"HTTP/1.1 200 OK\r\nContent-Le")
            case Fate.DRIP_HEAD:
                await _write(writer, b"HTTP/1.1 200 OK\r\nX-Drip: ")
                await _drip(writer)
            case _:  # HANG_UP
                pass
        return False


def _of(weights: Mapping[Fate, float], *fates: Fate) -> dict[Fate, float]:
    """Return weights for some of the fates, each with its share of all requests."""
    some = {fate: weights.get(fate, 0.0) for fate in fates}
    return {Fate.OK: max(1.0 - sum(some.values()), 0.0), **some}


def _server_context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def _reply(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _objection(said: str) -> bytes:
    return json.dumps({"error": {"message": said}}).encode()


def _credentials(headers: Mapping[str, str], body: bytes) -> str:
    """Return all keys in a request."""
    found = [headers[name] for name in ("authorization", "x-api-key") if name in headers]
    found += [key.decode() for key in _KEY_IN_BODY.findall(body)]
    return f"who is {' or '.join(found)}?"


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte from time to time, until the caller closes the connection."""
    for _ in range(int(_LONGEST / _DRIP)):
        await asyncio.sleep(_DRIP)
        if writer.is_closing():
            return
        await _write(writer, b".")


def _reset(writer: asyncio.StreamWriter) -> bool:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def _turns() -> None:
    """Run the loop's pending callbacks: accepting a connection takes three iterations, closing one takes one."""
    for _ in range(5):
        await asyncio.sleep(0)
