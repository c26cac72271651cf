"""Records that are captured in a transaction of SQLAlchemy wait for its commit, or are written by it.

SQLAlchemy reports the commit and the rollback of a transaction, and its end. Nothing is reported when a session is
garbage-collected, so that is detected in the finalizer of an object which only the session refers to. No query is made
and no connection is opened. The async classes are recognised by their attributes, because they need greenlet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from threading import Lock
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet, ref

from sessionsight.capture.current import get_current, scope_of
from sessionsight.capture.records import Record
from sessionsight.capture.transactions import TransactionListener, register_sessions
from sessionsight.errors import ConfigurationError, MissingDependencyError, describe

try:
    from sqlalchemy import Connection, event
    from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, sessionmaker
    from sqlalchemy.orm.attributes import instance_state
except ImportError as error:
    raise MissingDependencyError(
        'sessionsight.sqlalchemy needs SQLAlchemy 2: pip install "sessionsight[sqlalchemy]"'
    ) from error

from sessionsight.sqlalchemy import outbox as _outbox
from sessionsight.sqlalchemy.tables import metadata

__all__ = ["bind", "metadata"]

_KEY = "sessionsight"  # in `Session.info`
_recent: ContextVar[tuple[ref[Session], ...]] = ContextVar("sessionsight_recent_sessions", default=())
"""The bound sessions that this thread or task has used, the last one at the end."""
_begun: WeakKeyDictionary[TransactionListener, WeakSet[Session]] = WeakKeyDictionary()
"""The bound sessions that have begun a transaction in a request. FastAPI calls each `def` dependency in a thread with a
copy of the context, in which the view does not see what the dependency has used."""
_begun_lock = Lock()


def bind(target: object, *, outbox: bool = False) -> None:
    """Make records wait for the transactions of SQLAlchemy's sessions in which they are captured.

    A record is sent after the commit of the outermost transaction, and counted as `rolled_back` after a rollback,
    including that of a savepoint. This applies to all clients of the process. Call it once, before sessions are made.

    Args:
        target: A `sessionmaker`, an `async_sessionmaker`, a `scoped_session` (such as Flask-SQLAlchemy's `db.session`),
            an `async_scoped_session`, a class of sessions, or a `Session` or `AsyncSession`.
        outbox: Write the records into the tables of `spool="sqlalchemy:<URL>"` within the transaction, before its
            commit, so that they are stored if and only if it is committed. The spool must be the session's database.

    Raises:
        ConfigurationError: The target is something else.
        MissingDependencyError: SQLAlchemy is not installed; raised by the import of the module.

    Example:
        >>> from sqlalchemy.orm import sessionmaker
        >>> Session = sessionmaker()
        >>> bind(Session)
    """
    listened = _listened(target)
    for name, handler in (_HANDLERS | _OUTBOX_HANDLERS if outbox else _HANDLERS).items():
        event.listen(listened, name, handler)
    register_sessions(_BoundSessions())
    if isinstance(listened, Session):
        _mark_as_used(listened)
        transaction = _innermost(listened)
        _state(listened).connected = transaction is not None  # perhaps
        while transaction is not None:
            (_opened_with_outbox if outbox else _opened)(listened, transaction)
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
        return any(_wait(each, listener, record) for each in _current_sessions(listener))

    def writes(self, listener: TransactionListener, session: object) -> bool:
        """Return whether the innermost open transaction writes the listener's records into its outbox."""
        for each in [_sync_session(session)] if session is not None else _current_sessions(listener):
            if each.in_transaction():
                return _state(each).outbox and _outbox.problem(each, listener) is None
        return False

    def is_session(self, value: object) -> bool:
        """Return whether this is a session, or a registry of sessions, whose current one counts."""
        return isinstance(_sync_session(value), Session)


class _SessionState:
    """The open transactions of a session, with the records that wait for each. Only the session keeps it alive."""

    __slots__ = ("_lock", "_rolled_back", "_waiting", "changed", "connected", "outbox")

    def __init__(self) -> None:
        self.outbox = False
        """True if the session writes records into an outbox."""
        self.changed = False
        """True if the session has changed data since its outermost transaction began."""
        self.connected = False
        """True if the transaction has begun in a database, because the session has used a connection."""
        self._waiting: dict[SessionTransaction, list[_Waiting]] = {}
        self._rolled_back: list[_Waiting] = []
        """Of savepoints, while the transaction of an outbox is open."""
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

    def write(self, session: Session, transaction: SessionTransaction) -> None:
        """Write the records that wait for the outermost transaction into the outbox."""
        waiting = [
            (listener, record)
            for listener, record in list(self._waiting.get(transaction, ()))
            if not isinstance(listener, _Written)
        ]
        written = {
            id(record): (_Written(listener), record)
            for listener, record in _outbox.write(session, waiting, alone=not self.changed)
        }
        with self._lock:
            now = self._waiting.get(transaction, [])
            now[:] = [written.get(id(each[1]), each) for each in now]

    def end(self, transaction: SessionTransaction, *, committed: bool) -> None:
        """Report the end of a transaction. Records of a savepoint that is released wait for the one around it."""
        with self._lock:
            waiting = self._waiting.pop(transaction, [])
            if committed and transaction.nested and transaction.parent is not None:
                self._waiting.setdefault(_outside_flush(transaction.parent), []).extend(waiting)
                return
            if transaction.nested and self.outbox:
                self._rolled_back += waiting  # nothing is written while the transaction may lock the whole database
                return
            rolled_back: list[_Waiting] = []
            if transaction.parent is None:
                rolled_back, self._rolled_back = self._rolled_back, []
        _report(rolled_back, committed=False)
        _report(waiting, committed=committed)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            _report(self._rolled_back, committed=False)
            for waiting in self._waiting.values():
                _report(waiting, committed=not self.changed)


class _Written:
    """Receives the outcome of a record that is in the outbox, if that is committed."""

    def __init__(self, listener: TransactionListener) -> None:
        self._listener = listener

    def transaction_ended(self, record: Record, *, committed: bool) -> None:
        """Forget the record, or count it as rolled back."""
        if committed:
            self._listener.transaction_wrote(record)
        else:
            self._listener.transaction_ended(record, committed=False)


_Waiting = tuple[TransactionListener | _Written, Record]


def _wait(session: Session, listener: TransactionListener, record: Record) -> bool:
    """Return whether a record waits for the innermost transaction of a session."""
    state, transaction = _state(session), _innermost(session)
    if state.outbox and transaction is not None:
        _outbox.check(session, listener)
    if not state.add(transaction, listener, record):
        return False
    if session.dirty or session.deleted:
        state.changed = True  # no event reports them before they are flushed
    return True


def _report(waiting: list[_Waiting], *, committed: bool) -> None:
    for listener, record in waiting:
        listener.transaction_ended(record, committed=committed)


# --- SQLAlchemy's events -----------------------------------------------------------------------------


def _opened(session: Session, transaction: SessionTransaction) -> None:
    _mark_as_used(session)
    _state(session).begin(transaction)
    if transaction.parent is None and (analytics := get_current()) is not None:
        with _begun_lock:
            _begun.setdefault(scope_of(analytics), WeakSet()).add(session)


def _opened_with_outbox(session: Session, transaction: SessionTransaction) -> None:
    _state(session).outbox = True
    _opened(session, transaction)


def _committing(session: Session) -> None:
    """Write into the outbox, after what the commit would flush: that may capture something as well."""
    transaction = session.get_transaction()
    if transaction is not None and not session.in_nested_transaction():
        session.flush()
        state = _state(session)
        if state.connected:  # otherwise nothing is committed, and a database that is down must not matter
            state.write(session, transaction)


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
        state.changed = state.connected = False


def _connected(session: Session, _transaction: SessionTransaction, _connection: Connection) -> None:
    _state(session).connected = True


def _executed(execution: ORMExecuteState) -> None:
    _mark_as_used(execution.session)
    sql = getattr(execution.statement, "text", "")  # of `text()`
    if not execution.is_select and sql.lstrip()[:6].lower() != "select":
        _state(execution.session).changed = True


def _changed(session: Session, _: object) -> None:
    _mark_as_used(session)
    _state(session).changed = True


def _detached(session: Session, instance: object) -> None:
    """Notice a modified object that is removed before a flush, as `close` does with all objects before it ends."""
    if instance_state(instance).modified:
        _state(session).changed = True


_HANDLERS: dict[str, Any] = {
    "after_transaction_create": _opened,
    "after_commit": _committed,
    "after_rollback": _rolled_back,
    "after_transaction_end": _ended,
    "do_orm_execute": _executed,
    "after_flush": _changed,
    "transient_to_pending": _changed,
    "persistent_to_detached": _detached,
}
_OUTBOX_HANDLERS: dict[str, Any] = {
    "after_transaction_create": _opened_with_outbox,
    "after_begin": _connected,
    "before_commit": _committing,
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


def _current_sessions(listener: TransactionListener) -> Iterator[Session]:
    """Yield the sessions that a record may belong to: of this thread or task, then the only one of the request."""
    yield from filter(None, [known() for known in reversed(_recent.get())])
    with _begun_lock:
        begun = [each for each in _begun.get(listener, ()) if each.in_transaction()]
    if len(begun) == 1:
        yield begun[0]


def _mark_as_used(session: Session) -> None:
    """Make this the session that captures of this thread or task belong to."""
    recent = _recent.get()
    if not recent or recent[-1]() is not session:
        alive = [known for known in recent if (other := known()) is not None and other.in_transaction()]
        _recent.set((*(known for known in alive if known() is not session), ref(session)))
