from __future__ import annotations

import pytest

from sessionsight.content_length import ContentLengthTracker


def track(*sizes: int, method: str = "GET", status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> list[bool]:
    """Return whether the response is complete after its headers, and after each chunk of these sizes."""
    tracker = ContentLengthTracker(method)
    return [tracker.response_started(status, headers), *map(tracker.about_to_write, sizes)]


def length(value: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", "text/plain"), ("Content-Length", value))


def test_the_byte_that_completes_the_length_is_the_last() -> None:
    assert track(2, 2, 1, headers=length("5")) == [False, False, False, True]


def test_writes_after_the_last_byte_are_after_the_end() -> None:
    assert track(5, 0, 3, headers=length("5")) == [False, True, True, True]


def test_a_chunk_beyond_the_length_completes_the_response() -> None:
    assert track(9, headers=length("5")) == [False, True]


def test_too_few_bytes_do_not_complete_the_response() -> None:
    assert track(4, headers=length("5")) == [False, False]


@pytest.mark.parametrize("value", ["", "five", "-1", "1.5", "\u0665", "5, 5"])
def test_a_length_that_is_not_a_number_is_ignored(value: str) -> None:
    assert track(5, headers=length(value)) == [False, False]


def test_without_content_length_the_end_is_unknown() -> None:
    assert track(5) == [False, False]


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304), ("POST", 204), ("GET", 103)]
)
def test_a_response_without_a_body_is_complete_with_its_headers(method: str, status: int) -> None:
    assert track(0, 5, method=method, status=status, headers=length("5")) == [True, True, True]


def test_a_length_of_zero_is_complete_with_the_headers() -> None:
    assert track(headers=length("0")) == [True]


def test_names_may_be_bytes_in_any_case_and_values_may_have_spaces() -> None:
    tracker = ContentLengthTracker("GET")
    assert not tracker.response_started(200, [(b"CONTENT-length", b" 3 ")])
    assert tracker.about_to_write(3)


def test_a_second_response_start_overrides_the_first() -> None:
    tracker = ContentLengthTracker("GET")
    tracker.response_started(200, length("0"))
    tracker.response_started(500, length("3"))
    assert not tracker.is_complete
    assert tracker.about_to_write(3)
