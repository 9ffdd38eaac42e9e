# SPDX-License-Identifier: Apache-2.0
"""Digests, signatures, Merkle roots, the collector and the lake, on one core, beside bare calls.

The peers are the least that any implementation has to do: one secp256k1 signature or recovery by
coincurve per reading, one Keccak by safe-pysha3 per node of the tree; and eth-account, which most
would use for digests. A million readings go through the collector in `million.py`.
"""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import coincurve
import numpy as np
import pyarrow.parquet as pq
import sha3  # type: ignore[import-untyped]

from benchmarks import million
from benchmarks.million import bare_recover
from benchmarks.results import Result, race
from dao import eip712
from dao.errors import CheckFailed
from dao.paths import cache_dir
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from meters.devices import Fleet
from meters.lake import batch_path, write_batch
from meters.leaves import leaves_of, root_of_leaves
from meters.profiles import zone_profiles
from meters.readings import Reading, Readings
from meters.secrets import DerivedSecrets
from meters.signing import digests, reading_separator, recover_all

CODE = "1-LV-rural3--2-sw"
FIRST_SLOT = first_slot_of_day(date(2016, 6, 6))
LEAVES = 1_000_000
# eth-account takes about a third of a millisecond for one.
TYPED = 500
SEPARATOR = reading_separator(31_337, bytes(range(20)))
_PROOF_COLUMNS = ("signature", "leaf", "previous", "record_leaves")


def run() -> Result:
    """A day of the demo zone, signed, verified, hashed and stored; then a million meters."""
    profiles = zone_profiles(CODE, FIRST_SLOT, SLOTS_PER_DAY, 1, cache_dir())
    fleet = Fleet.of(1, range(1, len(profiles.homes) + 1))
    readings = fleet.readings(SEPARATOR, profiles, workers=1)
    n = len(readings)
    key = fleet.gateways[0].key

    messages = digests(SEPARATOR, readings)
    sign_s, bare_sign_s, _ = race(
        lambda: fleet.readings(SEPARATOR, profiles, workers=1),
        lambda: _bare_sign(key, messages),
        rounds=3,
    )
    verify_s, bare_recover_s, recovered = race(
        lambda: _verify(readings), lambda: bare_recover(messages, readings), rounds=3
    )
    if recovered != [g.address for g in fleet.gateways for _ in range(SLOTS_PER_DAY)]:
        raise CheckFailed("the signatures do not recover to their devices")

    few = readings.take(np.arange(TYPED))
    documents = [_typed_data(row) for row in few]
    digest_s, typed_s, ours = race(
        lambda: digests(SEPARATOR, few), lambda: _eth_account(documents), rounds=3
    )
    if ours != _eth_account(documents):
        raise CheckFailed("our digests are not those of eth-account")

    root_s, hash_s = _merkle()
    bytes_per_reading = _bytes_per_reading(readings)
    big = million.run()
    quarter_s = big["receive_s"] + big["close_s"] + big["prepare_s"]

    return Result(
        figures={
            "meters.sign_per_s": n / sign_s,
            "meters.verify_per_s": n / verify_s,
            "meters.digest_per_s": TYPED / digest_s,
            "meters.merkle_root_s": root_s,
            "meters.bytes_per_reading": bytes_per_reading,
            "meters.pipeline_per_s": million.METERS / big["receive_s"],
            "meters.quarter_hour_1m_s": quarter_s,
            "meters.quarter_hour_1m_cpu_s": big["cpu_s"],
            "meters.quarter_hour_1m_share": quarter_s / SLOT_SECONDS,
            "meters.million_mib": big["mib"],
        },
        peers={
            "meters.bare_sign_per_s": n / bare_sign_s,
            "meters.bare_recover_per_s": n / bare_recover_s,
            "meters.eth_account_digest_per_s": TYPED / typed_s,
            "meters.bare_hashes_s": hash_s,
        },
        ratios={
            "meters.sign_vs_bare": bare_sign_s / sign_s,
            "meters.verify_vs_recover": bare_recover_s / verify_s,
            "meters.digest_vs_eth_account": typed_s / digest_s,
            "meters.merkle_vs_hash": root_s / hash_s,
            "meters.pipeline_vs_recover": big["bare_recover_s"] / big["receive_s"],
            "meters.duplicate_vs_first": big["again_s"] / big["receive_s"],
        },
        notes={
            "meters.sign_per_s": f"chains of {len(profiles.homes)} meters, {n:,} readings",
            "meters.verify_per_s": "digest, recovery, address",
            "meters.bytes_per_reading": "in the lake; signatures, links and leaves aside",
            "meters.merkle_vs_hash": f"time for {LEAVES:,} leaves over twice as many hashes",
            "meters.digest_vs_eth_account": "encode_typed_data and its hash",
            "meters.pipeline_vs_recover": "decode, verify, dedupe, store over bare recoveries",
            "meters.duplicate_vs_first": "time to take the same million again",
            "meters.quarter_hour_1m_share": "receive, close, commit prepared; of 900 s",
            "meters.quarter_hour_1m_cpu_s": "the same in processor time, whatever else runs",
            "meters.million_mib": "most memory of the process that took and closed them",
        },
    )


def _merkle() -> tuple[float, float]:
    """Seconds for a root of a million leaves, and for the bare hashes."""
    leaves = [sha3.keccak_256(i.to_bytes(4, "big")).digest() for i in range(LEAVES)]
    root_s, hash_s, _ = race(lambda: root_of_leaves(leaves), lambda: _bare_hashes(leaves), rounds=3)
    return root_s, hash_s


def _typed_data(reading: Reading) -> dict[str, Any]:
    """A reading as eth-account takes it."""
    fields = {
        "meter": ("uint32", reading.meter),
        "slot": ("uint64", reading.slot),
        "importWh": ("uint32", reading.import_wh),
        "exportWh": ("uint32", reading.export_wh),
        "quality": ("uint8", int(reading.quality)),
        "sequence": ("uint64", reading.sequence),
        "previous": ("bytes32", reading.previous),
    }
    domain = {
        "name": ("string", "GridCommons Meter"),
        "version": ("string", "1"),
        "chainId": ("uint256", 31_337),
        "verifyingContract": ("address", "0x" + bytes(range(20)).hex()),
    }
    return {
        "types": {
            "EIP712Domain": [{"name": name, "type": kind} for name, (kind, _) in domain.items()],
            "Reading": [{"name": name, "type": kind} for name, (kind, _) in fields.items()],
        },
        "primaryType": "Reading",
        "domain": {name: value for name, (_, value) in domain.items()},
        "message": {name: value for name, (_, value) in fields.items()},
    }


def _eth_account(documents: list[dict[str, Any]]) -> list[bytes]:
    from eth_account.messages import _hash_eip191_message, encode_typed_data

    return [
        bytes(_hash_eip191_message(encode_typed_data(full_message=document)))
        for document in documents
    ]


def _verify(readings: Readings) -> list[bytes]:
    return recover_all(digests(SEPARATOR, readings), readings.signature, workers=1)


def _bare_sign(key: bytes, messages: list[bytes]) -> None:
    signer = coincurve.PrivateKey(key)
    for message in messages:
        signer.sign_recoverable(message, hasher=None)


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
        place = (Path(folder), 1, FIRST_SLOT, SLOTS_PER_DAY)
        write_batch(*place, ready, leaves, separator=SEPARATOR)
        path = batch_path(*place)
        stored = path.stat().st_size
        file = pq.ParquetFile(path)
        proofs = sum(
            chunk.total_compressed_size
            for group in range(file.metadata.num_row_groups)
            for column in range(file.metadata.num_columns)
            if (chunk := file.metadata.row_group(group).column(column)).path_in_schema.split(".")[0]
            in _PROOF_COLUMNS
        )
        file.close()
    return (stored - proofs) / len(readings)
