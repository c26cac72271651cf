"""Records are drained once, by whichever thread is first."""

from __future__ import annotations

from sessionsight.capture.pending import drain
from sessionsight.capture.records import Alias, Record


class DrainedMeanwhile(list[Record]):
    """Records that another thread takes after this one has seen that there are some."""

    def pop(self, *_: object) -> Record:
        self.clear()
        return super().pop()


def test_records_that_another_thread_was_quicker_to_take_are_left_to_it() -> None:
    record = Alias(alias="visitor-1", random=bytes(10), time=0.0)
    assert drain([record]) == [record]
    assert drain(DrainedMeanwhile([record])) == []
