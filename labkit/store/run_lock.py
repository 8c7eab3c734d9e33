"""RunLock: one owner per data folder, held by `flock`, so that it ends with the process however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from labkit.errors import AlreadyRunning, ConfigError


class Owner(msgspec.Struct, frozen=True):
    """Who holds the lock."""

    pid: int
    started_at: str
    host: str


class RunLock:
    """An exclusive lock on one data folder."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    @classmethod
    def acquire(cls, folder: Path, owner: Owner) -> RunLock:
        """Take the lock of `folder`.

        Raises:
            AlreadyRunning: another process (or this one, a second time) holds it; names the owner.
            ConfigError: the folder cannot be made or written, or its disk is full.
        """
        path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Opened for append: truncating before the lock is ours would erase the owner's name.
            file = open(path, "ab+")  # noqa: SIM115 - held open for the life of the lock
            os.chmod(path, 0o600)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            text = file.read()
            file.close()
            try:
                holder = msgspec.json.decode(text, type=Owner)
            except msgspec.DecodeError:
                holder = Owner(0, "an unknown time", "")
            here = holder.pid == os.getpid()
            raise AlreadyRunning(
                f"another labkit engine ({'in this very process' if here else f'process {holder.pid}'}, started "
                f"{holder.started_at}) owns {folder}; "
                + ("labkit.start() gives it" if here else "stop it, or attach to it from its own notebook")
                + ", or choose another data folder with data_dir=...",
                pid=holder.pid or None,
                started_at=holder.started_at,
            ) from None
        lock = cls(file, path)
        try:
            file.truncate(0)
            file.write(msgspec.json.encode(owner))
            file.flush()
        except OSError as error:
            lock.release()
            raise _unusable(folder, error) from error
        return lock

    def release(self) -> None:
        # What a full disk did not take is tried once more by the close, which closes all the same.
        with contextlib.suppress(OSError):
            self._file.close()


def _unusable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"setting data_dir: cannot keep state in {folder}: {error.strerror}; data_dir=... chooses another folder",
        field="data_dir",
    )
