# SPDX-License-Identifier: Apache-2.0
"""Where a lake lies: a folder, or any store that fsspec opens by its address.

What the files hold is in `batches.py`. A file appears whole or not at all: in a folder by a rename
after it is on disk, in an object store because a put there is one step.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from dao.errors import BadUse, CheckFailed
from dao.slots import day_of

if TYPE_CHECKING:
    import duckdb
    from fsspec import AbstractFileSystem

_NAME = re.compile(r"batch-(\d{1,12})-(\d{1,3})(?:\.v([2-9]))?\.parquet")


@dataclass(frozen=True)
class BatchFile:
    """A batch file by its name: `path` is whole, in the words of the lake's file system."""

    path: str
    first_slot: int
    slots: int
    version: int

    @property
    def end_slot(self) -> int:
        """The slot after the last."""
        return self.first_slot + self.slots

    def overlaps(self, first_slot: int, end_slot: int) -> bool:
        """Whether it holds a slot of first_slot <= slot < end_slot."""
        return self.first_slot < end_slot and first_slot < self.end_slot


@dataclass(frozen=True)
class Lake:
    """A file system and the folder in it. `filesystem` is None for a folder of this machine."""

    root: str
    filesystem: AbstractFileSystem | None = None

    @staticmethod
    def of(place: LakeLike) -> Lake:
        """The lake at a path, or at an address like `s3://bucket/lake` or `memory://lake`.

        BadUse where no file system answers to the address.
        """
        if isinstance(place, Lake):
            return place
        if isinstance(place, Path) or "://" not in place:
            return Lake(str(place))
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        try:
            filesystem, root = url_to_fs(place)
        except (ValueError, ImportError, OSError) as error:
            raise BadUse(f"cannot open the lake {place}: {error}") from None
        if isinstance(filesystem, LocalFileSystem):
            return Lake(root)
        return Lake(root.rstrip("/"), filesystem)

    def path(self, zone: int, first_slot: int, slots: int, version: int = 1) -> str:
        """Where a batch lies."""
        suffix = "" if version == 1 else f".v{version}"
        return f"{self.folder(zone, first_slot)}/batch-{first_slot}-{slots}{suffix}.parquet"

    def folder(self, zone: int, slot: int) -> str:
        """Where the batches of a slot's day lie."""
        return f"{self.root}/zone={zone}/day={day_of(slot).isoformat()}"

    def address(self, path: str) -> str:
        """A path of this lake as it is told to people and opened again."""
        if self.filesystem is None:
            return path
        return str(self.filesystem.unstrip_protocol(path))

    # files

    def batches(self, folder: str) -> list[BatchFile]:
        """The batch files of a folder, in order of time and version."""
        found = []
        for path in self._names(folder):
            name = _NAME.fullmatch(PurePosixPath(path).name)
            if name is not None:
                first, count, version = int(name[1]), int(name[2]), int(name[3] or 1)
                found.append(BatchFile(path, first, count, version))
        return sorted(found, key=lambda file: (file.first_slot, file.slots, file.version))

    def zone_batches(self, zone: int) -> list[BatchFile]:
        """All batch files of a zone, in order of time and version."""
        days = [
            path
            for path in self._names(f"{self.root}/zone={zone}")
            if PurePosixPath(path).name.startswith("day=")
        ]
        return [file for day in sorted(days) for file in self.batches(day)]

    def zones(self) -> list[int]:
        """The zones that have a folder here."""
        found = []
        for path in self._names(self.root):
            name = PurePosixPath(path).name.removeprefix("zone=")
            if name.isdigit():
                found.append(int(name))
        return sorted(found)

    def leftovers(self, zone: int) -> list[str]:
        """Temporary files of writes that broke off."""
        if self.filesystem is not None:
            return []
        return sorted(str(path) for path in Path(self.root).glob(f"zone={zone}/day=*/.batch-*.tmp"))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        if self.filesystem is None:
            return Path(path).is_file()
        with self._answering():
            return bool(self.filesystem.isfile(path))

    @contextmanager
    def reading(self, path: str) -> Iterator[IO[bytes]]:
        """An open file."""
        if self.filesystem is None:
            with Path(path).open("rb") as source:
                yield source
            return
        with self._answering(), self.filesystem.open(path, "rb") as source:
            yield source

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        """A file that is there, safe on disk, once this ends well, and else as it was before."""
        if self.filesystem is not None:
            held = io.BytesIO()
            yield held
            with self._answering():
                self.filesystem.pipe_file(path, held.getvalue())
                self.filesystem.invalidate_cache()
            return
        whole = Path(path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=whole.parent, prefix=f".{whole.stem}-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(whole)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(whole.parent)

    def remove(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""
        if self.filesystem is None:
            Path(path).unlink(missing_ok=True)
        elif self.exists(path):
            with self._answering():
                self.filesystem.rm_file(path)
                self.filesystem.invalidate_cache()

    # DuckDB

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read this lake's files by the names that `query_name` gives."""
        if self.filesystem is not None:
            connection.register_filesystem(self.filesystem)

    def query_name(self, path: str) -> str:
        """A file's name for DuckDB, which takes the signs of a pattern for one elsewhere."""
        if self.filesystem is None:
            return path
        return re.sub(r"([\[*?])", r"[\1]", self.address(path))

    # inside

    def _names(self, folder: str) -> list[str]:
        if self.filesystem is None:
            here = Path(folder)
            return [f"{folder}/{entry.name}" for entry in here.iterdir()] if here.is_dir() else []
        with self._answering():
            self.filesystem.invalidate_cache()
            try:
                return [str(name).rstrip("/") for name in self.filesystem.ls(folder, detail=False)]
            except FileNotFoundError:
                return []

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What a store's client raises, as one line; no client's errors have one class."""
        try:
            yield
        except (CheckFailed, FileNotFoundError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckFailed(f"the lake at {self.address(self.root)}: {reason}") from error


LakeLike = Path | str | Lake
"""What every function over a lake takes: a folder, an address, or an opened one."""


def opened(path: Path | str, lake: LakeLike | None) -> tuple[Lake, str]:
    """A batch file's lake and its path there; `lake` where the address alone does not open it."""
    if lake is not None:
        return Lake.of(lake), str(path)
    if isinstance(path, Path) or "://" not in path:
        return Lake(""), str(path)
    folder, name = path.rsplit("/", 1)
    held = Lake.of(folder)
    return held, f"{held.root}/{name}"


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Not every platform lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
