"""docs/deployment.md names the commands that the tests start, and no others."""

from __future__ import annotations

import re

from tests.servers.server import ROOT
from tests.servers.table import ROWS

# Those of development servers are in test_reload.
DEVELOPMENT = {"python manage.py runserver", "flask run --reload", "uvicorn --reload"}


def test_the_page_and_the_table_have_the_same_commands() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    commands = re.findall(r"^\$ (.+?)(?: (?:--module )?shop\.\S+)?$", page, re.MULTILINE)

    assert set(commands) - DEVELOPMENT == {row.command for row in ROWS}
