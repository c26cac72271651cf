"""Requests that go on: what they have captured leaves before they are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from sessionsight.collector import OpenScope

__all__ = ["OpenScopes"]


class OpenScopes:
    """Requests that have captured something which is not submitted yet, in the order in which they came.

    Most of them are over before anybody looks. Adding one takes no lock and no clock.

    Args:
        fault: Told of what a request has raised; the others go on.
    """

    INTERVAL = 0.5
    """Seconds between two calls of `age`. What a request captures leaves after two of them at the latest."""

    def __init__(self, fault: Callable[[Exception], None]) -> None:
        self._fault = fault
        self._new: deque[OpenScope] = deque()
        self._aged: list[OpenScope] = []

    def add(self, scope: OpenScope) -> None:
        """Watch a request that has captured something."""
        self._new.append(scope)

    def age(self) -> bool:
        """Submit what those hold that were here before; one thread calls it, again and again.

        Those that came since are asked to do it themselves, with whatever they capture next.

        Returns:
            Whether there are any of the latter, or some that keep something back for now.
        """
        due, self._aged = self._aged, self._taken()
        for scope in self._aged:
            scope.submit_soon()
        self._aged += self._submit(due)
        return bool(self._aged)

    def submit_all(self) -> None:
        """Submit what all of them hold: the process ends."""
        due, self._aged = [*self._aged, *self._taken()], []
        self._submit(due, final=True)

    def _submit(self, scopes: Sequence[OpenScope], *, final: bool = False) -> list[OpenScope]:
        """Returns those that keep something back."""
        waiting: list[OpenScope] = []
        for scope in scopes:
            try:
                if scope.submit_overdue(final=final):
                    waiting.append(scope)
            except Exception as error:
                self._fault(error)
        return waiting

    def _taken(self) -> list[OpenScope]:
        taken: list[OpenScope] = []
        with suppress(IndexError):
            taken.extend(self._new.popleft() for _ in range(len(self._new)))  # others go on adding
        return taken
