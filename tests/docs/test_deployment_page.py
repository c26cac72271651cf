"""The relays on the page about deployment are started by valid commands, beside an app that only writes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sessionsight.cli import main
from sessionsight.spool_url import is_durable

TEXT = (Path(__file__).parents[2] / "docs/deployment.md").read_text("utf-8")
COMPOSE, KUBERNETES = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))


def commands() -> Iterator[list[str]]:
    for line in re.findall(r"^ExecStart(?:Pre)?=\S+/sessionsight (.*)$", TEXT, re.MULTILINE):
        yield shlex.split(line)
    for line in re.findall(r"`sessionsight (relay [^`]*)`", TEXT):
        yield shlex.split(line)
    for container in [COMPOSE["services"]["relay"], container_of_the_pod()]:
        program, *arguments = container["command"]
        assert program == "sessionsight"
        yield arguments


def container_of_the_pod() -> dict[str, Any]:
    [container] = KUBERNETES["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("line", sorted({shlex.join(arguments) for arguments in commands()}))
def test_a_relay_is_started_by_a_valid_command(line: str) -> None:
    name, *rest = shlex.split(line)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, rest).params["app"] == "shop.web:app"


def test_the_manifests_are_consistent() -> None:
    spools = [service["environment"]["SESSIONSIGHT_SPOOL"] for service in COMPOSE["services"].values()]
    [redis] = [variable["value"] for variable in container_of_the_pod()["env"]]
    assert len({*spools}) == 1
    assert all(map(is_durable, [*spools, redis]))
    assert KUBERNETES["spec"]["selector"]["matchLabels"].items() <= labels().items()


def labels() -> dict[str, str]:
    return dict(KUBERNETES["spec"]["template"]["metadata"]["labels"])
