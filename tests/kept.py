# SPDX-License-Identifier: Apache-2.0
"""What the test processes make once for all and keep in `.build/`, such as SimBench's extract."""

from __future__ import annotations

import fcntl
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

BUILD = Path(__file__).parents[1] / ".build"
CODE = "1-LV-rural3--2-sw"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time; the lock goes with the process, however that ends."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def bring_extract(cache: Path) -> Path:
    """Put the extract of the demo zone into a cache folder, as a command leaves it there.

    To make it takes 15 s. It is made anew when SimBench or the code that makes it has changed.
    """
    import forecasting.grid
    import meters.simbench

    state = sha256(importlib.metadata.version("simbench").encode())
    for module in (meters.simbench, forecasting.grid):
        state.update(Path(str(module.__file__)).read_bytes())
    kept = BUILD / f"simbench-{state.hexdigest()[:16]}"
    with alone("simbench"):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as folder:
                part = Path(folder) / "extract"
                part.mkdir()
                meters.simbench.load_grid(CODE, part)
                forecasting.grid.load_grid(CODE, part)
                part.replace(kept)
    shutil.copytree(kept, cache, dirs_exist_ok=True)
    return cache
