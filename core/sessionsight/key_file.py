"""Keys in files, as Docker, Kubernetes and systemd provide secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sessionsight.errors import ConfigurationError, describe

__all__ = ["KeyFile"]

_MAX_BYTES = 64 * 1024


class KeyFile:
    """A key that is read from a file when it is needed, and again when the file has changed.

    A key can be rotated without a restart: a lane that has paused because its key was rejected resumes within a second
    of the file's change. White space around the key is removed.

    Args:
        path: The file. It need not exist yet.

    Raises:
        ConfigurationError: The path is empty; or, when the key is needed, the file cannot be read, is not UTF-8 text,
            is empty, or is larger than 64 KiB. The message contains the path and never the content.

    Example:
        >>> KeyFile("/run/secrets/signal")
        KeyFile('/run/secrets/signal')
    """

    __slots__ = ("_file", "_path", "_read")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given: object = path
        if not isinstance(given, str | os.PathLike) or not os.fspath(given):
            raise ConfigurationError(f"a key file must be a path, not {describe(given)}")
        self._path = os.fsdecode(path)
        self._file = Path(self._path)
        # The file's signature and its key, in one attribute, because several threads may read it.
        self._read: tuple[tuple[int, ...], str] | None = None

    @property
    def path(self) -> str:
        """Where the key is."""
        return self._path

    def __call__(self) -> str:
        """Return the key that is currently in the file."""
        try:
            found = self._file.stat()
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._read is not None and self._read[0] == signature:
                return self._read[1]
            with self._file.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"key file {self._path!r} cannot be read ({type(error).__name__})") from None
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"key file {self._path!r} is larger than {_MAX_BYTES} bytes")
        try:
            key = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ConfigurationError(f"key file {self._path!r} is not UTF-8 text") from None
        if not key:
            raise ConfigurationError(f"key file {self._path!r} is empty")
        self._read = signature, key
        return key

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same file."""
        return isinstance(other, KeyFile) and other._path == self._path

    def __hash__(self) -> int:
        return hash((KeyFile, self._path))

    def __repr__(self) -> str:
        return f"KeyFile({self._path!r})"

    @classmethod
    def from_option(cls, value: Any, *, where: str) -> Any:
        """Return a secret option's value: `{"file": path}` as a key file, anything else unchanged."""
        if not isinstance(value, dict):
            return value
        if set(value) != {"file"}:
            raise ConfigurationError(f'{where}: write a key from a file as {{"file": "/path/to/it"}}')
        try:
            return cls(value["file"])
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from None
