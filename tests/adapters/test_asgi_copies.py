"""A copy of a scope is searched for in a limited number of the calling frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sessionsight_asgi.copies import scope_of_caller


def test_without_a_copy_all_frames_of_a_thread_are_searched() -> None:
    original = {"analytics": object()}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(scope_of_caller, original).result() is None


def test_a_copy_that_is_a_hundred_frames_away_is_not_found() -> None:
    original: dict[str, Any] = {"analytics": object()}
    scope = {**original, "user": "user_1"}

    def below(frames: int) -> Any:
        return below(frames - 1) if frames else scope_of_caller(original)

    assert below(10) is scope
    assert below(200) is None
