"""The calls in docs/cli.md are valid."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest

from sessionsight.cli import main

PAGE = (Path(__file__).parents[3] / "docs/cli.md").read_text("utf-8")
SHOWN = [shlex.split(line, comments=True) for line in re.findall(r"^\$ sessionsight (.+)$", PAGE, re.MULTILINE)]
CALLS = {" ".join(call): call for call in SHOWN}


@pytest.mark.parametrize("arguments", CALLS.values(), ids=CALLS)
def test_a_call_on_the_page_is_valid(arguments: list[str]) -> None:
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None
    with suppress(click.exceptions.Exit):  # raised by --help
        command.make_context(name, rest)


def test_the_page_shows_each_command() -> None:
    assert {name for name, *_ in SHOWN} == set(main.list_commands(click.Context(main)))
