"""A store that fails on demand, for tests of what a queue does then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from sessionsight.delivery.stores.base import Store
from sessionsight.delivery.stores.errors import AnswerLost, StoreError, StoreUnavailable

METHODS = frozenset(name for base in (*Store.__bases__, Store) for name in vars(base) if not name.startswith("_"))
"""The members of the protocol. A queue that uses others fails."""


class FlakyStore:
    """Passes all calls to a store, except those that a test lets fail.

    Attributes:
        calls: The names of all methods called since the test has cleared it, failed calls included.
    """

    def __init__(self, store: Store) -> None:
        self.calls: list[str] = []
        self._store = store
        self._before: dict[str, Callable[[], StoreError]] = {}
        self._after: dict[str, int] = {}
        self._enqueued: dict[bytes, Any] = {}

    @contextmanager
    def failing(self, *methods: str, error: type[StoreError] = StoreUnavailable) -> Iterator[None]:
        """Let methods, by default all that do I/O, fail before they have an effect."""
        names = {*methods} or METHODS - {"close"}
        assert names <= METHODS
        before = self._before
        self._before = {**before, **dict.fromkeys(names, lambda: error("disk I/O error"))}
        yield
        self._before = before

    def lose_answer(self, method: str, times: int = 1) -> None:
        """Let the next calls of a method fail after they have had their effect."""
        assert method in METHODS
        self._after[method] = times

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in METHODS:
            raise AttributeError(f"{name} is not a member of the protocol")
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self._before:
                make_error = self._before[name]
                raise make_error()
            batch = options.get("batch_id", b"")
            if batch in self._enqueued:  # a store whose answers can be lost remembers the batches
                return self._enqueued[batch]
            result = found(*arguments, **options)
            if self._after.get(name, 0) > 0:
                self._after[name] -= 1
                self._enqueued.update({batch: result} if batch else {})
                raise AnswerLost("the connection was closed")
            return result

        return call


def as_store(flaky: FlakyStore) -> Store:
    """Return the same object under the type that queues take."""
    return cast(Store, flaky)
