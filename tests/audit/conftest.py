# SPDX-License-Identifier: Apache-2.0
"""The village, its published dossier of June 6 and 7, and ways to alter a dossier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from dao.audit.anchor import publish
from dao.audit.package import Dossier, Manifest
from dao.audit.remote import Remote
from dao.audit.verify import Check, verify
from forecasting.dossier import write_dossier
from tests.audit.village import Village, built

JUNE_5, JUNE_6, JUNE_7 = date(2016, 6, 5), date(2016, 6, 6), date(2016, 6, 7)


@pytest.fixture(scope="session")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with built(tmp_path_factory.mktemp("village")) as made:
        yield made


@dataclass(frozen=True)
class Published:
    """A dossier on disk whose root is on the chain."""

    path: Path
    manifest: Manifest


@pytest.fixture(scope="session")
def published(village: Village, tmp_path_factory: pytest.TempPathFactory) -> Published:
    path = tmp_path_factory.mktemp("published") / "june.zip"
    manifest = make(village, path, JUNE_6, JUNE_7)
    publish(village["DossierAnchor"], manifest, village.collector)
    return Published(path, manifest)


def make(village: Village, path: Path, begin: date, end: date, **more: object) -> Manifest:
    """Export a dossier of the village."""
    return write_dossier(village.request(begin, end, **more), village.sources(), path)


def checks(village: Village, path: Path) -> list[Check]:
    """What verify says of a file, with the village's node."""
    with Dossier(path) as dossier:
        return verify(dossier, Remote(village.chain.url))


def first_fault(found: list[Check]) -> Check | None:
    """The first check that failed."""
    return next((check for check in found if check.state == "failed"), None)
