"""Keys are read from files when they are needed, and again when the files change."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from sessionsight import Client, ConfigurationError, KeyFile, Settings
from sessionsight.destinations import Signal, from_options
from sessionsight.destinations.base import resolve_secret
from sessionsight.diagnosis import check
from tests.support.server import Server, reply, until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "signal"
    path.write_text("key_1\n", "utf-8")
    return path


def rewrite(file: Path, key: str) -> None:
    """Replace a file atomically, with a different size or inode in case the clock is coarse."""
    fresh = file.with_suffix(".new")
    fresh.write_text(key, "utf-8")
    os.utime(fresh, ns=(0, time.time_ns() + 10**9))
    fresh.replace(file)


def test_a_key_file_returns_its_key_without_line_end(file: Path) -> None:
    assert KeyFile(file)() == "key_1"
    file.write_text("\ufeffkey_2\r\n", "utf-8")
    assert KeyFile(str(file))() == "key_2"


def test_a_file_is_read_again_only_if_it_has_changed(file: Path) -> None:
    key = KeyFile(file)
    assert key() == "key_1"
    before = file.stat()
    file.write_text("key_x\n", "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert key() == "key_1"
    rewrite(file, "key_2")
    assert key() == "key_2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"secret\xff", "is not UTF-8 text"),
        (b"secret" * 20_000, "is larger than 65536 bytes"),
    ],
)
def test_errors_about_a_file_name_its_path_and_not_its_content(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        resolve_secret(KeyFile(file))
    assert str(file) in str(raised.value)
    assert "secret" not in str(raised.value).replace(str(file), "")


def test_a_missing_file_is_an_error_when_the_key_is_needed(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=r"missing' cannot be read \(FileNotFoundError\)"):
        resolve_secret(key)


@pytest.mark.parametrize("path", ["", None, 7])
def test_an_invalid_path_is_rejected_at_start(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="a key file must be a path"):
        KeyFile(path)


def test_an_option_may_name_a_file(file: Path) -> None:
    made = from_options("signal", {"api_key": {"file": str(file)}})
    assert made == Signal(api_key=KeyFile(file))
    assert hash(KeyFile(file)) == hash(KeyFile(str(file)))
    assert "key_1" not in repr(made)


@pytest.mark.parametrize("option", [{"path": "x"}, {}, {"file": "x", "mode": "r"}, {"file": ""}])
def test_an_invalid_mapping_for_a_key_file_is_an_error(option: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"destination 'signal': api_key: (write )?a key "):
        from_options("signal", {"api_key": option})


def test_only_keys_may_be_read_from_files(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="project_id must be str"):
        from_options("signal", {"api_key": "k", "project_id": {"file": str(file)}})


def test_an_environment_variable_may_name_a_file(file: Path) -> None:
    environ = {"SIGNAL_API_KEY_FILE": str(file), "ANALYSE_KEY_FILE": str(file), "ANALYSE_HOST_FILE": "/nowhere"}
    made = Settings.from_env(environ)
    assert [destination.name for destination in made.destinations] == ["signal", "analyse"]
    assert made.destinations[0] == Signal(api_key=KeyFile(file))
    [signal, analyse, *_] = check(Client(made), environ=environ)
    assert (signal.message, analyse.message) == (
        "configured by the environment (SIGNAL_API_KEY_FILE)",
        "configured by the environment (ANALYSE_KEY_FILE)",
    )


def test_a_key_together_with_its_file_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="both SIGNAL_API_KEY and SIGNAL_API_KEY_FILE are set"):
        Settings.from_env({"SIGNAL_API_KEY": "k", "SIGNAL_API_KEY_FILE": "/k"})


def client_of(server: Server, file: Path) -> Client:
    options = {"api_key": {"file": str(file)}, "endpoint": server.url}
    return Client(Settings.from_mapping({"destinations": {"signal": options}, "linger": 0, "pause_interval": 600}))


def test_a_rotated_key_resumes_a_paused_lane(file: Path) -> None:
    with Server() as server:
        server.will(reply(401))
        client = client_of(server, file)
        client.analytics.capture("seen", user_id="user_1")
        until(lambda: client.stats().lanes["signal"].state == "paused", "the lane pauses")
        rewrite(file, "key_2")
        assert client.flush(10)
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer key_1", "Bearer key_2"]
        assert client.stats().lanes["signal"].delivered == 1


def test_a_lane_waits_for_a_missing_key_file(file: Path) -> None:
    file.unlink()
    with Server() as server:
        client = client_of(server, file)
        client.analytics.capture("seen", user_id="user_1")
        until(lambda: client.stats().lanes["signal"].state == "paused", "the lane pauses")
        assert str(file) in str(client.stats().lanes["signal"].last_error)
        file.write_text("key_1", "utf-8")
        assert client.flush(10)
        assert client.stats().lanes["signal"].delivered == 1


def test_the_path_of_a_key_file_is_public(file: Path) -> None:
    assert KeyFile(file).path == str(file)
