"""One vendor works and three always fail: the working one receives everything without delay and in order."""

from __future__ import annotations

import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.fates import Fate
from tests.chaos.storm import GOALS, Scene
from tests.support.server import PATIENCE, until

SICKNESSES = (
    Fate.SILENT, Fate.DRIP_HEAD, Fate.KEY_REFUSED, Fate.BROKEN, Fate.GARBAGE, Fate.BUSY_SECONDS, Fate.RESET_BEFORE,
)  # fmt: skip
WITH_TLS = (*SICKNESSES, Fate.TLS_STRANGER, Fate.TLS_BROKEN, Fate.NO_NAME)
VISITS = 60


@pytest.mark.parametrize("healthy", ["sessionsight", "signal", "saytics", "analyse"])
def test_a_working_vendor_receives_everything_in_order_while_the_others_fail(
    healthy: str, seed: int, spool: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(f"{seed}:{healthy}")
    sick = {
        name: chance.choice(SICKNESSES if name in {"sessionsight", "signal"} else WITH_TLS)
        for name in ("sessionsight", "signal", "saytics", "analyse")
        if name != healthy
    }
    print(sick)
    captured = Counter(f"token-plain-{number}" for number in range(VISITS))
    weather = {name: {fate: 1.0} for name, fate in sick.items()}
    with Scene(seed, weather, tmp_path, spool=spool, goals_on_unknown="retry") as scene:
        for token in captured:
            scene.client.analytics.capture(token, user_id="user_1")
            scene.client.analytics.goals.increment(token, session_id="6f1d2c3b")

        until(lambda: scene.client.stats().lanes[healthy].delivered == VISITS, "the one that is well has everything")

        lanes = scene.client.stats().lanes
        assert {name: (lanes[name].delivered, lanes[name].pending) for name in sick} == dict.fromkeys(sick, (0, VISITS))
        order = [token for visit in scene.vendors[healthy].diary for token in visit.tokens]
        # Goals are sent concurrently, so their order may change.
        assert (sorted(order, key=list(captured).index) if healthy == GOALS else order) == list(captured)

        scene.calm()
        assert scene.client.flush(2 * PATIENCE)
        for name in scene.vendors:
            assert scene.account(name, captured, repeats=True).problems() == []
