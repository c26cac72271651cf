"""The spools that the tests of security run with, as those of the chaos suite do."""

from tests.chaos.conftest import seed, spool

__all__ = ["seed", "spool"]
