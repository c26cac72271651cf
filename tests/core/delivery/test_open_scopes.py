from __future__ import annotations

import pytest

from sessionsight.delivery.open_scopes import OpenScopes


class Scope:
    def __init__(self, error: Exception | None = None, *, delays: int = 0) -> None:
        self.error = error
        self.delays = delays
        self.calls: list[str] = []

    def submit_soon(self) -> None:
        self.calls.append("soon")

    def submit_overdue(self, *, final: bool = False) -> bool:
        self.calls.append("overdue")
        if self.error is not None:
            raise self.error
        self.delays -= 1
        return self.delays >= 0 and not final


def unheard(error: BaseException) -> None:
    raise AssertionError("nothing goes wrong") from error


def test_a_scope_is_asked_first_and_submits_at_the_second_time() -> None:
    scopes, scope = OpenScopes(unheard), Scope()
    scopes.add(scope)
    assert scopes.age()
    assert scope.calls == ["soon"]
    assert not scopes.age()
    assert scope.calls == ["soon", "overdue"]
    assert not scopes.age()
    assert scope.calls == ["soon", "overdue"]


def test_one_that_keeps_something_back_is_called_again() -> None:
    scopes, scope = OpenScopes(unheard), Scope(delays=1)
    scopes.add(scope)
    assert scopes.age()
    assert scopes.age()
    assert not scopes.age()
    assert scope.calls == ["soon", "overdue", "overdue"]


def test_each_has_its_own_age() -> None:
    scopes, older, newer = OpenScopes(unheard), Scope(), Scope()
    scopes.add(older)
    scopes.age()
    scopes.add(newer)
    assert scopes.age()
    assert (older.calls, newer.calls) == (["soon", "overdue"], ["soon"])


def test_at_the_end_all_submit() -> None:
    scopes, older, newer = OpenScopes(unheard), Scope(), Scope()
    scopes.add(older)
    scopes.age()
    scopes.add(newer)
    scopes.submit_all()
    assert (older.calls, newer.calls) == (["soon", "overdue"], ["overdue"])
    assert not scopes.age()


def test_one_that_fails_is_told_of_and_the_others_go_on() -> None:
    told: list[Exception] = []
    scopes, failing, other = OpenScopes(told.append), Scope(ZeroDivisionError()), Scope()
    scopes.add(failing)
    scopes.add(other)
    scopes.age()
    scopes.age()
    assert other.calls == ["soon", "overdue"]
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_one_that_ends_the_thread_is_passed_on() -> None:
    class Ends(Scope):
        def submit_overdue(self, *, final: bool = False) -> bool:
            raise SystemExit

    scopes = OpenScopes(unheard)
    scopes.add(Ends())
    scopes.age()
    with pytest.raises(SystemExit):
        scopes.age()
