# SPDX-License-Identifier: Apache-2.0
"""Signed readings: EIP-712 digests packed by hand, bulk signing and recovery.

`Reading(uint32 meter,uint64 slot,uint32 importWh,uint32 exportWh,uint8 quality)` in the domain
"GridCommons Meter", version "1", whose verifying contract is the MeterRegistry. A null value is
signed as 0xFFFFFFFF (`readings.NULL_WH`).

Bulk work runs on threads, not processes: libsecp256k1 is called with Python's lock released, so two
threads are as fast here as two processes, nothing has to be pickled, no `__main__` is imported
twice, and Ctrl-C leaves no process behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import coincurve
import numpy as np
import sha3  # type: ignore[import-untyped]

from dao import eip712
from meters.readings import SIGNATURE_BYTES, Readings

DOMAIN_NAME = "GridCommons Meter"
DOMAIN_VERSION = "1"
READING_TYPE = b"Reading(uint32 meter,uint64 slot,uint32 importWh,uint32 exportWh,uint8 quality)"
READING_TYPEHASH = eip712.keccak(READING_TYPE)

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = CURVE_ORDER // 2

# Some 0.1 s of work: short enough for a prompt Ctrl-C, long enough to make hand-over free.
_CHUNK = 2048

T = TypeVar("T")
R = TypeVar("R")


def reading_separator(chain_id: int, registry: str | bytes) -> bytes:
    """The domain separator of readings for the MeterRegistry at `registry`, 32 bytes."""
    return eip712.domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, registry)


def digests(separator: bytes, readings: Readings) -> list[bytes]:
    """The digest each reading is signed over, in order: 32 bytes each.

    Raises ValueError for a value outside its field: a digest of cut-off bits would sign something
    else than it says.
    """
    n = len(readings)
    packed = np.zeros((n, 6, 32), dtype=np.uint8)
    packed[:, 0] = np.frombuffer(READING_TYPEHASH, dtype=np.uint8)
    for column, (name, width) in enumerate(
        (("meter", 4), ("slot", 8), ("import_wh", 4), ("export_wh", 4), ("quality", 1)), start=1
    ):
        values = getattr(readings, name)
        _check_range(name, values, width)
        packed[:, column, 32 - width :] = big_endian(values, width)
    structs = packed.tobytes()
    keccak = sha3.keccak_256
    prefix = b"\x19\x01" + separator
    return [
        keccak(prefix + keccak(structs[at : at + 192]).digest()).digest()
        for at in range(0, n * 192, 192)
    ]


def big_endian(values: np.ndarray, width: int) -> np.ndarray:
    """Non-negative integers as their lowest `width` bytes, uint8 of shape (n, width)."""
    wide = np.ascontiguousarray(values).astype(">u8").view(np.uint8).reshape(-1, 8)
    return wide[:, 8 - width :]


def _check_range(name: str, values: np.ndarray, width: int) -> None:
    if len(values) and (values.min() < 0 or (width < 8 and values.max() >= 1 << (8 * width))):
        raise ValueError(f"{name} does not fit into {8 * width} bits")


def sign_readings(
    keys: Sequence[bytes] | bytes, separator: bytes, readings: Readings, workers: int | None = None
) -> Readings:
    """The readings with their signatures: by one private key, or by one key per row."""
    made = digests(separator, readings)
    rows = [keys] * len(made) if isinstance(keys, bytes) else list(keys)
    objects = {key: coincurve.PrivateKey(key) for key in set(rows)}
    signatures = bulk(
        lambda part: [eip712.sign_with(objects[key], digest) for key, digest in part],
        list(zip(rows, made, strict=True)),
        workers,
    )
    block = np.frombuffer(b"".join(signatures), dtype=np.uint8).reshape(-1, SIGNATURE_BYTES)
    return Readings(
        readings.meter,
        readings.slot,
        readings.import_wh,
        readings.export_wh,
        readings.quality,
        block,
    )


def normalise(signatures: np.ndarray) -> np.ndarray:
    """Signatures (n, 65) with s in the lower half order and v in {27, 28}; input is kept.

    Every signature has a twin with the other s that is just as valid, and device libraries produce
    either. Contracts accept the lower one only, so that is what is kept. v given as 0 or 1 becomes
    27 or 28.
    """
    out: np.ndarray = signatures.copy()
    plain = out[:, 64] < 2
    out[plain, 64] += 27
    # Only an s whose first byte exceeds 0x7e can lie in the upper half; the rest is exact.
    for i in np.flatnonzero(out[:, 32] >= 0x7F):
        s = int.from_bytes(out[i, 32:64].tobytes(), "big")
        if _HALF_ORDER < s < CURVE_ORDER and out[i, 64] in (27, 28):
            out[i, 32:64] = np.frombuffer((CURVE_ORDER - s).to_bytes(32, "big"), dtype=np.uint8)
            out[i, 64] = 55 - out[i, 64]
    return out


def recover_all(
    digests: Sequence[bytes], signatures: np.ndarray, workers: int | None = None
) -> list[bytes]:
    """The 20-byte address behind each normalised signature; empty bytes where there is none."""
    block = np.ascontiguousarray(signatures).tobytes()
    rows = [
        (digest, block[i * SIGNATURE_BYTES : (i + 1) * SIGNATURE_BYTES])
        for i, digest in enumerate(digests)
    ]
    return bulk(lambda part: [_recover(*row) for row in part], rows, workers)


def _recover(digest: bytes, signature: bytes) -> bytes:
    try:
        return eip712.recover(digest, signature)
    except ValueError:
        return b""


def bulk(work: Callable[[list[T]], list[R]], rows: list[T], workers: int | None = None) -> list[R]:
    """`work` over `rows` in chunks on `workers` threads (default: one per core), in order.

    On Ctrl-C the chunks not begun are dropped and the call ends within one chunk's time.
    """
    workers = workers or os.cpu_count() or 1
    chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]
    if workers == 1 or len(chunks) < 2:
        return [result for chunk in chunks for result in work(chunk)]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="meters")
    try:
        return [result for part in pool.map(work, chunks) for result in part]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
