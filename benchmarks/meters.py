# SPDX-License-Identifier: Apache-2.0
"""Digests, signatures, Merkle roots and the lake, on one core, beside the bare library calls.

The peers are the least that any implementation has to do: one secp256k1 signature or recovery by
coincurve per reading, and one Keccak by safe-pysha3 per node of the tree.
"""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import coincurve
import numpy as np
import pyarrow.parquet as pq
import sha3  # type: ignore[import-untyped]

from benchmarks.results import Result, race
from dao import eip712
from dao.errors import CheckFailed
from dao.paths import cache_dir
from dao.slots import SLOTS_PER_DAY, first_slot_of_day
from meters.devices import Fleet
from meters.lake import write_batch
from meters.leaves import DerivedSecrets, leaves_of, root_of_leaves
from meters.profiles import zone_profiles
from meters.readings import Readings
from meters.signing import digests, reading_separator, recover_all, sign_readings

CODE = "1-LV-rural3--2-sw"
FIRST_SLOT = first_slot_of_day(date(2016, 6, 6))
LEAVES = 200_000
SEPARATOR = reading_separator(31_337, bytes(range(20)))
_PROOF_COLUMNS = ("signature", "leaf")


def run() -> Result:
    """A day of the demo zone, signed, verified, hashed and stored."""
    profiles = zone_profiles(CODE, FIRST_SLOT, SLOTS_PER_DAY, 1, cache_dir())
    fleet = Fleet.of(1, range(1, len(profiles.homes) + 1))
    readings = fleet.readings(SEPARATOR, profiles, workers=1)
    n = len(readings)
    key = fleet.gateways[0].key

    messages = digests(SEPARATOR, readings)
    sign_s, bare_sign_s, _ = race(
        lambda: sign_readings(key, SEPARATOR, readings, workers=1),
        lambda: _bare_sign(key, messages),
    )
    verify_s, bare_recover_s, recovered = race(
        lambda: _verify(readings), lambda: _bare_recover(messages, readings)
    )
    if recovered != [g.address for g in fleet.gateways for _ in range(SLOTS_PER_DAY)]:
        raise CheckFailed("the signatures do not recover to their devices")

    leaves = [sha3.keccak_256(i.to_bytes(4, "big")).digest() for i in range(LEAVES)]
    root_s, hash_s, _ = race(lambda: root_of_leaves(leaves), lambda: _bare_hashes(leaves))

    return Result(
        figures={
            "meters.sign_per_s": n / sign_s,
            "meters.verify_per_s": n / verify_s,
            "meters.merkle_root_s": root_s,
            "meters.bytes_per_reading": _bytes_per_reading(readings),
        },
        peers={
            "meters.bare_sign_per_s": n / bare_sign_s,
            "meters.bare_recover_per_s": n / bare_recover_s,
            "meters.bare_hashes_s": hash_s,
        },
        ratios={
            "meters.sign_vs_bare": bare_sign_s / sign_s,
            "meters.verify_vs_recover": bare_recover_s / verify_s,
            "meters.merkle_vs_hash": root_s / hash_s,
        },
        notes={
            "meters.sign_per_s": f"digest and signature, {n:,} readings",
            "meters.verify_per_s": "digest, recovery, address",
            "meters.bytes_per_reading": "in the lake, signatures and leaves aside",
            "meters.merkle_vs_hash": f"time for {LEAVES:,} leaves over twice as many hashes",
        },
    )


def _verify(readings: Readings) -> list[bytes]:
    return recover_all(digests(SEPARATOR, readings), readings.signature, workers=1)


def _bare_sign(key: bytes, messages: list[bytes]) -> None:
    signer = coincurve.PrivateKey(key)
    for message in messages:
        signer.sign_recoverable(message, hasher=None)


def _bare_recover(messages: list[bytes], readings: Readings) -> None:
    block = readings.signature.copy()
    block[:, 64] -= 27
    raw = block.tobytes()
    width = block.shape[1]
    recover = coincurve.PublicKey.from_signature_and_message
    for i, message in enumerate(messages):
        recover(raw[i * width : (i + 1) * width], message, hasher=None)


def _bare_hashes(leaves: list[bytes]) -> None:
    hasher = sha3.keccak_256
    pair = leaves[0] + leaves[1]
    for _ in range(2 * len(leaves)):
        hasher(pair).digest()


def _bytes_per_reading(readings: Readings) -> float:
    """Compressed bytes of the columns that carry values, per row of one batch file."""
    order = np.lexsort((readings.slot, readings.meter))
    ready = readings.take(order)
    leaves = leaves_of(ready, DerivedSecrets(eip712.keccak(b"benchmark salts")))
    with tempfile.TemporaryDirectory() as folder:
        path = write_batch(Path(folder), 1, FIRST_SLOT, SLOTS_PER_DAY, ready, leaves)
        stored = path.stat().st_size
        file = pq.ParquetFile(path)
        proofs = sum(
            chunk.total_compressed_size
            for group in range(file.metadata.num_row_groups)
            for column in range(file.metadata.num_columns)
            if (chunk := file.metadata.row_group(group).column(column)).path_in_schema
            in _PROOF_COLUMNS
        )
        file.close()
    return (stored - proofs) / len(readings)
