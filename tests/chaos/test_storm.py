"""All faults at once, with every kind of spool."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pytest

from tests.chaos.storm import Plan, run


@pytest.mark.parametrize("goals_on_unknown", ["dead_letter", "retry"])
def test_every_record_is_accounted_for_whatever_the_vendors_do(
    seed: int,
    spool: str,
    goals_on_unknown: Literal["dead_letter", "retry"],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    result = run(Plan(seed, visits=120, storm=3, spool=spool, goals_on_unknown=goals_on_unknown), tmp_path)

    print(result)
    assert result.problems() == []
    assert sum(account.unknown() for account in result.accounts) > 0, "the weather was too fine to tell anything"
