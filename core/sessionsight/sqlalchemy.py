"""Records that are captured in a transaction of SQLAlchemy wait for its commit.

SQLAlchemy reports the commit and the rollback of a transaction, and its end. Nothing is reported when a session is
garbage-collected, so that is detected in the finalizer of an object which only the session refers to. No query is made
and no connection is opened. The async classes are recognised by their attributes, because they need greenlet.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from threading import Lock
from typing import Any, cast
from weakref import ref

from sessionsight.capture.records import Record
from sessionsight.capture.transactions import TransactionListener, register_sessions
from sessionsight.errors import ConfigurationError, MissingDependencyError, describe

try:
    from sqlalchemy import event
    from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, sessionmaker
except ImportError as error:
    raise MissingDependencyError(
        'sessionsight.sqlalchemy needs SQLAlchemy 2: pip install "sessionsight[sqlalchemy]"'
    ) from error

__all__ = ["bind"]

_KEY = "sessionsight"  # in `Session.info`
_recent: ContextVar[tuple[ref[Session], ...]] = ContextVar("sessionsight_recent_sessions", default=())
"""The bound sessions that this thread or task has used, the last one at the end."""


def bind(target: object) -> None:
    """Make records wait for the transactions of SQLAlchemy's sessions in which they are captured.

    A record is sent after the commit of the outermost transaction, and counted as `rolled_back` after a rollback,
    including that of a savepoint. This applies to all clients of the process. Call it once, before sessions are made.

    Args:
        target: A `sessionmaker`, an `async_sessionmaker`, a `scoped_session` (such as Flask-SQLAlchemy's `db.session`),
            an `async_scoped_session`, a class of sessions, or a `Session` or `AsyncSession`.

    Raises:
        ConfigurationError: The target is something else.
        MissingDependencyError: SQLAlchemy is not installed; raised by the import of the module.

    Example:
        >>> from sqlalchemy.orm import sessionmaker
        >>> Session = sessionmaker()
        >>> bind(Session)
    """
    listened = _listened(target)
    for name, handler in _HANDLERS.items():
        event.listen(listened, name, handler)
    register_sessions(_BoundSessions())
    if isinstance(listened, Session):
        _mark_as_used(listened)
        transaction = _innermost(listened)
        while transaction is not None:
            _opened(listened, transaction)
            transaction = transaction.parent


class _BoundSessions:
    """The sessions of this process; a `sessionsight.capture.transactions.DatabaseSessions`."""

    def defer(self, listener: TransactionListener, record: Record, session: object) -> bool:
        """Defer a record until the end of the innermost transaction of a session."""
        if session is not None:
            named = _sync_session(session)
            if _KEY not in named.info:
                bind(named)
            return _wait(named, listener, record)
        for reference in reversed(_recent.get()):
            recent = reference()
            if recent is not None and _wait(recent, listener, record):
                return True
        return False

    def is_session(self, value: object) -> bool:
        """Return whether this is a session, or a registry of sessions, whose current one counts."""
        return isinstance(_sync_session(value), Session)


class _SessionState:
    """The open transactions of a session, with the records that wait for each. Only the session keeps it alive."""

    __slots__ = ("_lock", "_waiting", "changed")

    def __init__(self) -> None:
        self.changed = False
        """True if the session has changed data since its outermost transaction began."""
        self._waiting: dict[SessionTransaction, list[tuple[TransactionListener, Record]]] = {}
        self._lock = Lock()  # threads that copy the context capture in the same transaction

    def begin(self, transaction: SessionTransaction) -> None:
        """Let records wait for a transaction."""
        with self._lock:
            self._waiting.setdefault(transaction, [])

    def add(self, transaction: SessionTransaction | None, listener: TransactionListener, record: Record) -> bool:
        """Return whether a record waits for this transaction: not if it has been committed or rolled back."""
        with self._lock:
            waiting = None if transaction is None else self._waiting.get(transaction)
            if waiting is None:
                return False
            listener.transaction_pending(record)
            waiting.append((listener, record))
            return True

    def end(self, transaction: SessionTransaction, *, committed: bool) -> None:
        """Report the end of a transaction. Records of a savepoint that is released wait for the one around it."""
        with self._lock:
            waiting = self._waiting.pop(transaction, [])
            if committed and transaction.nested and transaction.parent is not None:
                self._waiting.setdefault(_outside_flush(transaction.parent), []).extend(waiting)
                return
        _report(waiting, committed=committed)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            for waiting in self._waiting.values():
                _report(waiting, committed=not self.changed)


def _wait(session: Session, listener: TransactionListener, record: Record) -> bool:
    """Return whether a record waits for the innermost transaction of a session."""
    state = _state(session)
    if not state.add(_innermost(session), listener, record):
        return False
    if session.dirty or session.deleted:
        state.changed = True  # no event reports them before they are flushed
    return True


def _report(waiting: list[tuple[TransactionListener, Record]], *, committed: bool) -> None:
    for listener, record in waiting:
        listener.transaction_ended(record, committed=committed)


# --- SQLAlchemy's events -----------------------------------------------------------------------------


def _opened(session: Session, transaction: SessionTransaction) -> None:
    _mark_as_used(session)
    _state(session).begin(transaction)


def _committed(session: Session) -> None:
    _end(session, committed=True)


def _rolled_back(session: Session) -> None:
    _end(session, committed=False)


def _end(session: Session, *, committed: bool) -> None:
    _state(session).end(cast("SessionTransaction", _innermost(session)), committed=committed)


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Report the end of a transaction without a commit or a rollback: a loss only if there were changes."""
    state = _state(session)
    state.end(transaction, committed=not state.changed)
    if transaction.parent is None:
        state.changed = False


def _executed(execution: ORMExecuteState) -> None:
    _mark_as_used(execution.session)
    sql = getattr(execution.statement, "text", "")  # of `text()`
    if not execution.is_select and sql.lstrip()[:6].lower() != "select":
        _state(execution.session).changed = True


def _changed(session: Session, _: object) -> None:
    _mark_as_used(session)
    _state(session).changed = True


_HANDLERS: dict[str, Any] = {
    "after_transaction_create": _opened,
    "after_commit": _committed,
    "after_rollback": _rolled_back,
    "after_transaction_end": _ended,
    "do_orm_execute": _executed,
    "after_flush": _changed,
    "transient_to_pending": _changed,
}


# --- sessions ----------------------------------------------------------------------------------------


def _listened(target: Any) -> Session | type[Session]:
    """Return the session, or the class of sessions, whose events belong to what `bind` was called with."""
    found: Any = getattr(target, "session_factory", target)  # of a registry
    if hasattr(getattr(found, "class_", None), "sync_session_class"):
        found = _sync_class(found)
    if isinstance(found, sessionmaker):
        found = found.class_
    found = getattr(found, "sync_session", found)
    if isinstance(found, Session) or (isinstance(found, type) and issubclass(found, Session)):
        return found
    raise ConfigurationError(f"bind() takes a sessionmaker or a session of SQLAlchemy, not {describe(target)}")


def _sync_class(maker: Any) -> Any:
    """Return what an `async_sessionmaker` makes its sync sessions with, if necessary after giving it its own class."""
    sync = maker.kw.get("sync_session_class") or maker.class_.sync_session_class
    if isinstance(sync, sessionmaker) or event.contains(sync, "after_commit", _committed):
        return sync
    own = type(sync.__name__, (sync,), {})  # the default is the class of all sessions of the process
    maker.configure(sync_session_class=own)
    return own


def _sync_session(session: Any) -> Any:
    """Return the session that has the transactions of an async session, or of a registry's current one."""
    current = session() if hasattr(session, "session_factory") else session
    return getattr(current, "sync_session", current)


def _state(session: Session) -> _SessionState:
    state: _SessionState | None = session.info.get(_KEY)
    if state is None:
        state = session.info[_KEY] = _SessionState()
    return state


def _innermost(session: Session) -> SessionTransaction | None:
    """Return the innermost savepoint or, without one, the transaction."""
    return session.get_nested_transaction() or session.get_transaction()


def _outside_flush(transaction: SessionTransaction) -> SessionTransaction:
    """Return the savepoint or transaction around a flush, which SQLAlchemy represents by a transaction as well."""
    while transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    return transaction


def _mark_as_used(session: Session) -> None:
    """Make this the session that captures of this thread or task belong to."""
    recent = _recent.get()
    if not recent or recent[-1]() is not session:
        alive = [known for known in recent if (other := known()) is not None and other.in_transaction()]
        _recent.set((*(known for known in alive if known() is not session), ref(session)))
