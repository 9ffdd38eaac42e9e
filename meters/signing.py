# SPDX-License-Identifier: Apache-2.0
"""Signed readings in a chain: EIP-712 digests packed by hand, links, bulk signing and recovery.

`Reading(uint32 meter,uint64 slot,uint32 importWh,uint32 exportWh,uint8 quality,uint64 sequence,
bytes32 previous)` in the domain "GridCommons Meter", version "1", whose verifying contract is the
MeterRegistry. A null value is signed as 0xFFFFFFFF (`readings.NULL_WH`). A metering point numbers
its readings, and each names the link of the one before: keccak(digest || r || s || v). The
signature in a link hides the reading: nobody can try out values against it.

Bulk work runs on threads, not processes: libsecp256k1 is called with Python's lock released, so two
threads are as fast here as two processes, nothing has to be pickled, no `__main__` is imported
twice, and Ctrl-C leaves no process behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import coincurve
import numpy as np
import sha3  # type: ignore[import-untyped]

from dao import eip712
from dao.errors import BadUse
from meters.readings import LINK_BYTES, SIGNATURE_BYTES, Readings

DOMAIN_NAME = "GridCommons Meter"
DOMAIN_VERSION = "1"
READING_TYPE = (
    b"Reading(uint32 meter,uint64 slot,uint32 importWh,uint32 exportWh,uint8 quality,"
    b"uint64 sequence,bytes32 previous)"
)
READING_TYPEHASH = eip712.keccak(READING_TYPE)

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = CURVE_ORDER // 2

# The struct's words: type hash, six numbers of so many bytes, link.
_NUMBERS = (
    ("meter", 4),
    ("slot", 8),
    ("import_wh", 4),
    ("export_wh", 4),
    ("quality", 1),
    ("sequence", 8),
)
_WORDS = 2 + len(_NUMBERS)
_STRUCT = 32 * _WORDS

# Some 0.1 s of work: short enough for a prompt Ctrl-C, long enough to make hand-over free.
_CHUNK = 2048

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Head:
    """The last reading of a metering point's chain: its number and its link (32 bytes)."""

    sequence: int
    link: bytes

    NONE: ClassVar[Head]
    """Before the first reading."""


Head.NONE = Head(-1, bytes(LINK_BYTES))


def reading_separator(chain_id: int, registry: str | bytes) -> bytes:
    """The domain separator of readings for the MeterRegistry at `registry`, 32 bytes."""
    return eip712.domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, registry)


def digests(separator: bytes, readings: Readings) -> list[bytes]:
    """The digest each reading is signed over, in order: 32 bytes each.

    Raises ValueError for a value outside its field: a digest of cut-off bits would sign something
    else than it says.
    """
    structs = _structs(readings).tobytes()
    keccak = sha3.keccak_256
    prefix = b"\x19\x01" + separator
    return [
        keccak(prefix + keccak(structs[at : at + _STRUCT]).digest()).digest()
        for at in range(0, len(structs), _STRUCT)
    ]


def links(digests: Sequence[bytes], signatures: np.ndarray) -> np.ndarray:
    """What the next reading names as `previous`, uint8 (n, 32). Signatures must be normalised."""
    keccak = sha3.keccak_256
    block = np.ascontiguousarray(signatures).tobytes()
    made = b"".join(
        [
            keccak(digest + block[at : at + SIGNATURE_BYTES]).digest()
            for digest, at in zip(digests, range(0, len(block), SIGNATURE_BYTES), strict=True)
        ]
    )
    return np.frombuffer(made, dtype=np.uint8).reshape(-1, LINK_BYTES)


def _structs(readings: Readings) -> np.ndarray:
    """What is hashed of each reading before the domain comes in, uint8 (n, words, 32)."""
    packed = np.zeros((len(readings), _WORDS, 32), dtype=np.uint8)
    packed[:, 0] = np.frombuffer(READING_TYPEHASH, dtype=np.uint8)
    for column, (name, width) in enumerate(_NUMBERS, start=1):
        values = getattr(readings, name)
        _check_range(name, values, width)
        packed[:, column, 32 - width :] = big_endian(values, width)
    packed[:, -1] = readings.previous
    return packed


def big_endian(values: np.ndarray, width: int) -> np.ndarray:
    """Non-negative integers as their lowest `width` bytes, uint8 of shape (n, width)."""
    wide = np.ascontiguousarray(values).astype(">u8").view(np.uint8).reshape(-1, 8)
    return wide[:, 8 - width :]


def _check_range(name: str, values: np.ndarray, width: int) -> None:
    if len(values) and (values.min() < 0 or (width < 8 and values.max() >= 1 << (8 * width))):
        raise ValueError(f"{name} does not fit into {8 * width} bits")


def sign_chain(
    key: bytes, separator: bytes, readings: Readings, head: Head, workers: int | None = 1
) -> Readings:
    """One meter's readings, in their order, signed as the continuation of its chain after `head`.

    Whatever they carried as sequence, link and signature is replaced. Raises BadUse for readings
    of several meters.
    """
    meters = np.unique(readings.meter).tolist()
    if len(meters) > 1:
        raise BadUse(f"a chain belongs to one meter, not to {len(meters)}")
    return sign_chains(
        dict.fromkeys(meters, key), separator, readings, dict.fromkeys(meters, head), workers
    )


def sign_chains(
    keys: Mapping[int, bytes],
    separator: bytes,
    readings: Readings,
    heads: Mapping[int, Head],
    workers: int | None = None,
) -> Readings:
    """As `sign_chain` for many meters: each meter's rows, in their order, after its head.

    A meter that `heads` does not know begins its chain. A chain is signed one after the other,
    different chains on `workers` threads.
    """
    n = len(readings)
    order = np.argsort(readings.meter, kind="stable")
    meters, begins, counts = np.unique(readings.meter[order], return_index=True, return_counts=True)
    known = [heads.get(meter, Head.NONE) for meter in meters.tolist()]
    first = np.array([head.sequence + 1 for head in known], dtype=np.int64)
    numbers = np.repeat(first - begins, counts) + np.arange(n)
    rows = replace(readings.take(order), sequence=numbers)
    structs = _structs(rows).tobytes()
    prefix = b"\x19\x01" + separator

    def sign(chains: list[tuple[int, int, int, bytes]]) -> list[tuple[bytes, bytes]]:
        keccak = sha3.keccak_256
        made: list[tuple[bytes, bytes]] = []
        for meter, begin, count, link in chains:
            private = coincurve.PrivateKey(keys[meter])
            for at in range(begin * _STRUCT, (begin + count) * _STRUCT, _STRUCT):
                struct = structs[at : at + _STRUCT - LINK_BYTES] + link
                digest = keccak(prefix + keccak(struct).digest()).digest()
                signature = eip712.sign_with(private, digest)
                made.append((link, signature))
                link = keccak(digest + signature).digest()
        return made

    chains = list(
        zip(
            meters.tolist(),
            begins.tolist(),
            counts.tolist(),
            [head.link for head in known],
            strict=True,
        )
    )
    signed = bulk(sign, chains, workers, max(1, _CHUNK * len(chains) // max(n, 1)))
    previous = np.empty((n, LINK_BYTES), dtype=np.uint8)
    signature = np.empty((n, SIGNATURE_BYTES), dtype=np.uint8)
    sequence = np.empty(n, dtype=np.int64)
    previous[order] = _block([link for link, _ in signed], LINK_BYTES)
    signature[order] = _block([made for _, made in signed], SIGNATURE_BYTES)
    sequence[order] = numbers
    return replace(readings, signature=signature, sequence=sequence, previous=previous)


def heads_after(separator: bytes, readings: Readings) -> dict[int, Head]:
    """Meter to the head of its chain once these signed readings are part of it."""
    order = np.lexsort((readings.sequence, readings.meter))
    meters = readings.meter[order]
    last = readings.take(order[np.append(meters[1:] != meters[:-1], True)] if len(order) else order)
    made = links(digests(separator, last), last.signature)
    return {
        meter: Head(sequence, link.tobytes())
        for meter, sequence, link in zip(
            last.meter.tolist(), last.sequence.tolist(), made, strict=True
        )
    }


def _block(rows: Sequence[bytes], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, width)


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


def signers(
    digests: Sequence[bytes], signatures: np.ndarray, workers: int | None = None
) -> np.ndarray:
    """The address behind each normalised signature, uint8 (n, 20); zeros where there is none."""
    return _block(recover_all(digests, signatures, workers, b"\0" * 20), 20)


def recover_all(
    digests: Sequence[bytes], signatures: np.ndarray, workers: int | None = None, none: bytes = b""
) -> list[bytes]:
    """The 20-byte address behind each normalised signature; `none` where there is none."""
    block = np.ascontiguousarray(signatures).tobytes()
    rows = [
        (digest, block[i * SIGNATURE_BYTES : (i + 1) * SIGNATURE_BYTES])
        for i, digest in enumerate(digests)
    ]
    return bulk(lambda part: [_recover(*row) or none for row in part], rows, workers)


def _recover(digest: bytes, signature: bytes) -> bytes:
    try:
        return eip712.recover(digest, signature)
    except ValueError:
        return b""


def bulk(
    work: Callable[[list[T]], list[R]],
    rows: list[T],
    workers: int | None = None,
    chunk: int = _CHUNK,
) -> list[R]:
    """`work` over `rows` in chunks on `workers` threads (default: one per core), in order.

    On Ctrl-C the chunks not begun are dropped and the call ends within one chunk's time.
    """
    workers = workers or os.cpu_count() or 1
    chunks = [rows[at : at + chunk] for at in range(0, len(rows), chunk)]
    if workers == 1 or len(chunks) < 2:
        return [result for chunk in chunks for result in work(chunk)]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="meters")
    try:
        return [result for part in pool.map(work, chunks) for result in part]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
