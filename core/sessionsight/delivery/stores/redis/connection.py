"""Runs scripts at a Redis server, within a time limit and without repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from redis import connection as redis_connection
from redis import exceptions

from sessionsight.delivery.stores.errors import (
    AnswerLost,
    ForeignDatabase,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnsupportedSchema,
)
from sessionsight.spool_url import RedisUrl

__all__ = ["RedisConnections", "Script"]

# Seconds for which no write waits for replicas after one of them has waited for too few.
_COOL_DOWN = 1.0

library: Any = redis_connection  # some of its functions have no annotations


class Script(Struct, frozen=True):
    """A Lua script."""

    source: str
    digest: str
    """Its SHA-1, by which a server knows it."""


class RedisConnections:
    """The connections of a process to one server; used by any thread, without locks.

    The pool of redis-py is not used, because it holds a lock during which a signal handler may capture something.

    Args:
        url: The server. In a cluster it may be any node, and the one that has the keys is found by its redirection.
        on_missing_replicas: Called with the number of replicas that have a write, if these are too few.
    """

    def __init__(self, url: RedisUrl, on_missing_replicas: Callable[[int], object]) -> None:
        self._password = url.password
        self._wait_replicas = url.wait_replicas
        self._on_missing_replicas = on_missing_replicas
        self._wait_again_at = 0.0
        self._options = {"protocol": 2, "socket_keepalive": True, **library.parse_url(url.url)}
        self._class = self._options.pop("connection_class", library.Connection)
        self._moved_to: dict[str, Any] = {}
        self._idle: list[Any] = []
        self._closed = False

    def run(self, script: Script, key: str, *arguments: str | bytes, timeout: float, replicated: bool = False) -> Any:
        """Run a script once, and return its result.

        Args:
            script: The script.
            key: The key by which a cluster finds its node.
            *arguments: Its arguments.
            timeout: Seconds for all of it.
            replicated: Wait for the rest of the time until the replicas have the write. If too few have it then, the
                result is the same.

        Raises:
            StoreError: See `Store`.
        """
        deadline = time.monotonic() + timeout
        command = ("EVALSHA", script.digest)
        while True:
            try:
                return self._exchange((*command, 1, key, *arguments), deadline, replicated=replicated)
            except exceptions.NoScriptError:
                command = ("EVAL", script.source)
            except exceptions.ResponseError as error:
                if not _is_redirection(error):
                    raise self._translate(error) from error
                host, _, port = str(error).split()[-1].rpartition(":")
                self._move({"host": host or self._options["host"], "port": int(port)})

    def info(self, *, timeout: float) -> dict[str, str]:
        """Return the server's description of itself.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            reply = self._exchange(("INFO",), time.monotonic() + timeout).decode()
        except exceptions.ResponseError as error:
            raise self._translate(error) from error
        return dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)

    def close(self) -> None:
        """Keep no connection from now on."""
        self._closed = True
        self._disconnect()

    def _exchange(self, command: tuple[Any, ...], deadline: float, *, replicated: bool = False) -> Any:
        """Send a command, and return its reply. One that is an error is raised as redis-py has it."""
        connection = self._connected(deadline)
        answered = False
        try:
            connection._sock.settimeout(_remaining(deadline))
            connection.send_command(*command)
            reply = connection.read_response()
            answered = not replicated or self._wait_for_replicas(connection, deadline)
            return reply
        except exceptions.ResponseError:
            answered = True
            raise
        except exceptions.RedisError as error:
            raise self._translate(error, lost=True) from error
        finally:
            if answered and not self._closed:
                self._idle.append(connection)
            else:
                connection.disconnect()

    def _wait_for_replicas(self, connection: Any, deadline: float) -> bool:
        """Wait until the replicas have what a connection has written, and return whether it can be used again."""
        now = time.monotonic()
        remaining = deadline - now
        if not self._wait_replicas or now < self._wait_again_at or remaining <= 0:
            return True
        found, answered = 0, True
        try:
            connection._sock.settimeout(remaining)
            # The reply must arrive before the deadline. 0 would be no limit.
            connection.send_command("WAIT", self._wait_replicas, max(int(remaining * 900), 1))
            found = connection.read_response()
        except exceptions.RedisError as error:
            answered = isinstance(error, exceptions.ResponseError)
        if found < self._wait_replicas:
            self._wait_again_at = time.monotonic() + _COOL_DOWN
            self._on_missing_replicas(found)
        return answered

    def _connected(self, deadline: float) -> Any:
        """Return a connection that is not in use. It waits for half of the time at most."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if _is_open(connection):
                return connection
            connection.disconnect()
        connection = self._class(**{**self._options, **self._moved_to})
        connection.socket_connect_timeout = connection.socket_timeout = _remaining(deadline) / 2
        try:
            connection.connect()
        except exceptions.RedisError as error:
            self._move({})
            raise self._translate(error) from error
        return connection

    def _move(self, address: dict[str, Any]) -> None:
        self._moved_to = address
        self._disconnect()

    def _disconnect(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()

    def _translate(self, error: exceptions.RedisError, *, lost: bool = False) -> StoreError:
        """Return the error of a store for one of redis-py, without the password."""
        message = str(error)
        if self._password:
            message = message.replace(self._password, "***")
        if isinstance(error, exceptions.BusyLoadingError) or message.startswith("BUSY"):
            return StoreBusy(message)
        if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)):
            return StoreUnavailable(f"{message}; check user and password in its URL, and the rights of the user")
        if isinstance(error, exceptions.ReadOnlyError):
            return StoreUnavailable(f"{message}; it is a replica: the URL must have the address of the primary")
        if isinstance(error, exceptions.OutOfMemoryError):
            return StoreFull(f"OOM {message}; give the server more memory, or reduce spool_bytes")
        if message.startswith("NEWERSCHEMA"):
            return UnsupportedSchema(f"a newer release has created it (version {message.split()[1]})")
        if message.startswith("WRONGTYPE"):
            return ForeignDatabase("another program has keys under its namespace; choose another one in its URL")
        return AnswerLost(message) if lost else StoreUnavailable(message)


def _is_redirection(error: exceptions.ResponseError) -> bool:
    """Return whether another node of a cluster has the keys. redis-py has a class of its own for that since 6.0."""
    return isinstance(error, exceptions.MovedError) or str(error).startswith("MOVED")


def _is_open(connection: Any) -> bool:
    """Return whether the server has not closed a connection in the meantime."""
    try:
        return not connection.can_read()
    except exceptions.RedisError:
        return False


def _remaining(deadline: float) -> float:
    """Return the seconds until a deadline.

    Raises:
        StoreUnavailable: It is over.
    """
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise StoreUnavailable("it has not answered in time")
    return remaining
