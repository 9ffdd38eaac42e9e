# SPDX-License-Identifier: Apache-2.0
"""One quarter-hour of 1,000,000 meters through the collector, on one core, in processes of its own.

`sign` makes the frames, each meter with a key of its own; `collect` takes them, takes them again,
closes the batch and prepares the ledger's transaction, and says how much memory it took. What is
measured is what a collector does: real frames, real signatures, real files, flushed to disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coincurve
import numpy as np
from eth_account import Account

from dao import eip712
from dao.abi import Interface
from dao.artifacts import load_artifacts
from dao.errors import CheckFailed
from dao.ledger import pack_totals
from dao.paths import cache_dir
from dao.slots import SLOT_SECONDS
from meters import frames
from meters.collector import Collector
from meters.lake import Batch
from meters.readings import SIGNATURE_BYTES, Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.signing import bulk, digests, reading_separator, sign_chains

METERS = 1_000_000
SLOT = 1_627_968
SEPARATOR = reading_separator(31_337, bytes(range(20)))
# A collector under load finds many frames waiting and takes them in one transaction.
FRAMES_A_TRANSACTION = 16
# The peer recovers every eighth signature, between our transactions: the same share of every
# moment of the machine.
SAMPLE = 8

_TIMEOUT_S = 1_800


def run(meters: int = METERS) -> dict[str, float]:
    """Seconds of each step (`receive_s`, `again_s`, `close_s`, `prepare_s`), `bare_recover_s` for
    as many recoveries, `cpu_s` of receiving, closing and preparing in processor time, and `mib`,
    the most memory that the collecting process had."""
    # In the state folder, not in /tmp, which may be memory: a collector's disk is a disk.
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="million-", dir=cache_dir()) as folder:
        for step in ("sign", "collect"):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.million", step, folder, str(meters)],
                stdout=subprocess.PIPE,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            if done.returncode:
                raise CheckFailed(f"the million readings: `{step}` ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def sign(folder: Path, meters: int) -> None:
    """Write the frames and the devices' addresses."""
    random = np.random.default_rng(1)
    rows = Readings.columns(
        np.arange(1, meters + 1),
        np.full(meters, SLOT),
        random.integers(0, 900, meters),
        random.integers(0, 300, meters) * (random.random(meters) < 0.3),
    )
    keys = {meter: _key(meter) for meter in range(1, meters + 1)}
    addresses = bulk(
        lambda part: [eip712.address_bytes(eip712.address_of(key)) for key in part],
        list(keys.values()),
    )
    signed = sign_chains(keys, SEPARATOR, rows, {})
    (folder / "devices").write_bytes(b"".join(addresses))
    with (folder / "frames").open("wb") as out:
        for at in range(0, meters, frames.MAX_RECORDS):
            part = np.arange(at, min(at + frames.MAX_RECORDS, meters))
            out.write(frames.encode(signed.take(part)))


def _key(meter: int) -> bytes:
    return eip712.keccak(b"benchmark meter" + meter.to_bytes(4, "big"))


def collect(folder: Path, meters: int) -> dict[str, float]:
    """Take the frames twice, close, and prepare the commit."""
    addresses = (folder / "devices").read_bytes()
    keys = KeyPeriods.fixed({i + 1: addresses[i * 20 : i * 20 + 20] for i in range(meters)})
    interface = load_artifacts()["ReadingLedger"].interface
    spent: defaultdict[str, float] = defaultdict(float)
    recovered = 0
    with Collector(
        1,
        keys,
        DerivedSecrets(eip712.keccak(b"benchmark salts")),
        SEPARATOR,
        folder / "lake",
        folder / "inbox.sqlite",
        clock=lambda: float((SLOT + 1) * SLOT_SECONDS + 60),
        workers=1,
    ) as collector:
        for step, word in (("receive", "accepted"), ("again", "duplicates")):
            count = 0
            for group in _groups(folder / "frames"):
                with _timed(spent, step):
                    reports = collector.receive_frames(group)
                count += sum(getattr(report.report, word) for report in reports)
                if step == "receive":
                    readings = Readings.concat([frames.decode(frame) for frame in group])
                    sample = readings.take(np.arange(0, len(readings), SAMPLE))
                    recovered += len(sample)
                    messages = digests(SEPARATOR, sample)
                    with _timed(spent, "bare"):
                        bare_recover(messages, sample)
            if count != meters:
                raise CheckFailed(f"{count} of {meters} readings were {word}")
        with _timed(spent, "close"):
            batch = collector.close_batch(SLOT, 1)
        with _timed(spent, "prepare"):
            data = _commit_data(interface, batch)
        if batch.homes != meters or len(data) < 200:
            raise CheckFailed(f"the batch holds {batch.homes} homes, not {meters}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "receive_s": spent["receive"],
        "again_s": spent["again"],
        "close_s": spent["close"],
        "prepare_s": spent["prepare"],
        "bare_recover_s": spent["bare"] * meters / recovered,
        "cpu_s": sum(spent[f"{step}_cpu"] for step in ("receive", "close", "prepare")),
        "mib": peak / 1024,
    }


@contextmanager
def _timed(spent: defaultdict[str, float], step: str) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    spent[step] += time.perf_counter() - began
    spent[f"{step}_cpu"] += time.process_time() - cpu


def bare_recover(messages: list[bytes], readings: Readings) -> None:
    """The least that a check of these signatures takes: one coincurve recovery each."""
    block = readings.signature.copy()
    block[:, 64] -= 27
    raw = block.tobytes()
    recover = coincurve.PublicKey.from_signature_and_message
    for i, message in enumerate(messages):
        recover(raw[i * SIGNATURE_BYTES : (i + 1) * SIGNATURE_BYTES], message, hasher=None)


def _groups(path: Path) -> Iterator[list[bytes]]:
    """The file's frames, as many at a time as one transaction takes."""
    with path.open("rb") as source:
        group: list[bytes] = []
        while head := source.read(8):
            size = int.from_bytes(head[4:], "big") * frames.RECORD_BYTES
            group.append(head + source.read(size))
            if len(group) == FRAMES_A_TRANSACTION:
                yield group
                group = []
        if group:
            yield group


def _commit_data(interface: Interface, batch: Batch) -> bytes:
    """The signed transaction that commits the slot. The ledger takes whole hours: the other three
    slots' totals, which cost nothing to pack, stand at zero."""
    words = pack_totals(*(np.pad(total, (0, 3)) for total in (batch.net_wh, batch.export_wh)))
    data = interface.encode_call(
        "commit", [1, SLOT, 4, batch.root, batch.homes, batch.leaves, words]
    )
    fields = {
        "type": 2,
        "chainId": 31_337,
        "nonce": 0,
        "value": 0,
        "data": data,
        "to": "0x" + "11" * 20,
        "gas": 1_000_000,
        "maxFeePerGas": 2 * 10**9,
        "maxPriorityFeePerGas": 0,
    }
    return bytes(Account.sign_transaction(fields, _key(0)).raw_transaction)


if __name__ == "__main__":
    step, where, count = sys.argv[1:]
    if step == "sign":
        sign(Path(where), int(count))
    else:
        print(json.dumps(collect(Path(where), int(count))))
