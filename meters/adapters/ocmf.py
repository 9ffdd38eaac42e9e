# SPDX-License-Identifier: Apache-2.0
"""OCMF: signed charging records, as plain text or in the XML of the transparency software.

A reading counts only once its signature holds; the curves are those of `cryptography`, and
secp192k1, which it lacks, is in `secp192k1`. Whose key it is, the caller must know.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dao.errors import BadUse, CheckFailed
from meters.adapters import secp192k1
from meters.adapters.engine import Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    child_text,
    children,
    descendants,
    instant,
    load_json,
    load_xml,
    name_of,
    number,
    obis,
    objects,
    shown,
    text_of,
    watt_hours,
)
from meters.readings import Quality

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve

_HEADER = "OCMF|"
_DEFAULT_METHOD = "ECDSA-secp256r1-SHA256"
# Names that OCMF uses beside those of cryptography.
_CURVES = {"brainpool256r1": "brainpoolP256r1", "brainpool384r1": "brainpoolP384r1"}

# Meter status (ST); N is "no value", everything not listed is an error of the meter.
_STATUS = {"G": Quality.MEASURED, "S": Quality.SUBSTITUTED, "N": Quality.MISSING}
# Energy registers of OCMF beyond 1.8 and 2.8: B0 to B3 import, C0 to C3 export, of the mains or
# the device. 98.8.0 is what some DC chargers write for the energy of the transaction.
_OWN_CODES: tuple[tuple[re.Pattern[str], Direction], ...] = (
    (re.compile(r"(?:\w{1,2}-\w{1,2}:)?0*B[0-3]\.0*8\.\w{1,2}(?:[.*]\w{1,3})?", re.I), "import"),
    (re.compile(r"(?:\w{1,2}-\w{1,2}:)?0*C[0-3]\.0*8\.\w{1,2}(?:[.*]\w{1,3})?", re.I), "export"),
    (re.compile(r"(?:\w{1,2}-\w{1,2}:)?98\.8\.0(?:[.*]\w{1,3})?", re.I), "import"),
)
# A reading that leaves a field out means the value of the reading before.
_INHERITED = ("TM", "TX", "RI", "RU", "RT", "EF", "ST")


@dataclass(frozen=True)
class _Record:
    """A record as it was signed: the exact text of the payload, its signature and key."""

    payload: str
    signature: str
    key: str | None


def read(data: bytes, source: Source) -> Iterator[Point]:
    """Readings of every record, each record verified first; CheckFailed if one is not genuine."""
    order = 0
    pages: list[tuple[str, str, int]] = []
    for record in _records(data):
        signature = load_json(record.signature)
        payload = load_json(record.payload)
        if not isinstance(signature, dict) or not isinstance(payload, dict):
            raise BadUse("an OCMF record holds two JSON objects, payload and signature")
        page = name_of(payload.get("PG")) or "without a number"
        if source.options.key is None and record.key is not None:
            source.note("verified with the key in the file: compare it with the one on the meter")
        if not _is_genuine(record, signature, source.options.key):
            raise CheckFailed(f"the signature of OCMF page {page} does not hold under this key")
        meter = name_of(payload.get("MS")) or name_of(payload.get("GS"))
        match = re.fullmatch(r"([TF])(\d{1,12})", page)
        if match:
            pages.append((meter or "", match[1], int(match[2])))
        before: dict[str, Any] = {}
        moments: list[tuple[object, set[object]]] = []
        for one in objects(payload.get("RD"), "RD"):
            entry = {**before, **one}
            before = {name: entry[name] for name in _INHERITED if name in entry}
            place = _moment(entry, moments)
            yield from _points(entry, meter, order + place + 1, source)
        order += len(moments)
    _check_pages(pages, source)


def _moment(entry: dict[str, Any], moments: list[tuple[object, set[object]]]) -> int:
    """Which moment of its record a reading belongs to.

    Import and export of one event are one moment. The same register twice are two, even if their
    stamps agree to the second.
    """
    event, register = (name_of(entry.get("TM")), name_of(entry.get("TX"))), name_of(entry.get("RI"))
    for place, (known, registers) in enumerate(moments):
        if known == event and register not in registers:
            registers.add(register)
            return place
    moments.append((event, {register}))
    return len(moments) - 1


def _points(
    entry: dict[str, Any], meter: str | None, order: int, source: Source
) -> Iterator[Point]:
    stamp = name_of(entry.get("TM")) or ""
    match = re.fullmatch(r"(\S+?)(?:,(\d{3}))?([+-]\d{2}:?\d{2}|Z) ([UISR])", stamp)
    if match is None:
        raise BadUse(f"TM is {shown(stamp)}, expected 2024-04-01T12:00:00,000+0200 S")
    end = instant(f"{match[1]}.{match[2] or '000'}{match[3]}", "TM")
    status, errors = name_of(entry.get("ST")), name_of(entry.get("EF")) or ""
    if match[4] == "U":
        source.note("a reading's clock was not set (TM ends with U): its time is not to be trusted")
    identifier = name_of(entry.get("RI"))
    value = number(entry.get("RV"), "RV")
    if identifier is None and value is None:
        return  # the reading of an event, without energy
    direction = _direction(identifier or "")
    if direction is None:
        source.note(f"RI {identifier} is no register of active energy and was left out")
        return
    quality = _STATUS.get(status or "", Quality.INVALID)
    if errors:  # E: the energy is wrong, t: the time is
        quality = Quality.INVALID
    doubts = [f"EF={errors}"] if errors else []
    doubts += ["TM=U"] if match[4] == "U" else []
    code = " ".join([status or "-", *doubts])
    wh = watt_hours(value, entry.get("RU"), "RU")
    yield Point(meter, end, direction, wh, quality=quality, source_quality=code, order=order)


def _direction(identifier: str) -> Direction | None:
    meaning = obis(identifier)
    if meaning is not None:
        return meaning.direction if meaning.register else None
    # Chargers write the channel as a letter ("1-b:1.8.0"), which `obis` takes; what is left are
    # OCMF's own codes.
    return next((side for shape, side in _OWN_CODES if shape.fullmatch(identifier)), None)


def _check_pages(pages: list[tuple[str, str, int]], source: Source) -> None:
    """Pages of one meter and kind count up by one, in whatever order a file lists them."""
    for before, (meter, kind, page) in pairwise(sorted(pages)):
        if before[:2] == (meter, kind) and page != before[2] + 1:
            what = "comes again" if page == before[2] else f"does not follow {kind}{before[2]}"
            source.note(f"meter {meter}: page {kind}{page} {what}")


def _records(data: bytes) -> list[_Record]:
    text = text_of(data).strip()
    if text.startswith("<"):
        return _xml_records(data)
    if _HEADER not in text:
        raise BadUse("no OCMF: expected OCMF|{payload}|{signature}, or the XML around it")
    return [_record(piece, None) for piece in re.split(r"(?=OCMF\|\s*\{)", text) if piece.strip()]


def _record(text: str, key: str | None) -> _Record:
    text = text.strip()
    if not text.startswith(_HEADER):
        raise BadUse(f"no OCMF record: it starts with {shown(text[:20])} instead of OCMF|")
    payload, rest = _object(text[len(_HEADER) :])
    if not rest.startswith("|"):
        raise BadUse("the OCMF record has no signature: expected OCMF|{payload}|{signature}")
    signature, rest = _object(rest[1:])
    # Older chargers append their key as a fourth part.
    return _Record(payload, signature, key or rest.strip().strip("|") or None)


def _object(text: str) -> tuple[str, str]:
    """The JSON object at the start of a text, as it stands there, and what follows it."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise BadUse("an OCMF record holds two JSON objects, payload and signature") from None
    return text[:end], text[end:].lstrip()


def _xml_records(data: bytes) -> list[_Record]:
    records = []
    for value in descendants(load_xml(data), "value"):
        key = child_text(value, "publicKey")
        for signed in children(value, "signedData"):
            text = (signed.text or "").strip()
            encoding = (signed.get("encoding") or "plain").lower()
            if encoding != "plain" and not text.startswith(_HEADER):
                text = _bytes(text, "signedData").decode("utf-8", errors="replace")
            records.append(_record(text, key))
    if not records:
        raise BadUse("no OCMF in the XML: expected values/value/signedData")
    return records


def _bytes(text: str, what: str) -> bytes:
    """Hexadecimal, with or without spaces, or base64."""
    packed = "".join(text.split())
    try:
        return bytes.fromhex(packed)
    except ValueError:
        pass
    try:
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise BadUse(f"{what} is neither hexadecimal nor base64") from None


def key_bytes(data: bytes) -> bytes:
    """A public key out of a file or an option: PEM, DER, hexadecimal or base64."""
    text = data.decode("latin-1")
    if "-----BEGIN" in text:
        return _bytes(re.sub(r"-----[^-]+-----", "", text), "the PEM key")
    if data[:1] == b"\x30" and not re.fullmatch(r"[\w\s+/=]+", text):
        return data
    return _bytes(text, "the key")


def _is_genuine(record: _Record, signature: dict[str, Any], given: bytes | None) -> bool:
    """Whether the payload was signed by the key: the caller's, or else the one in the file."""
    method = name_of(signature.get("SA")) or _DEFAULT_METHOD
    match = re.fullmatch(r"ECDSA-(\w+)-SHA(256|384|512)", method)
    if match is None:
        raise BadUse(f"signature method {shown(method)} is not known, expected {_DEFAULT_METHOD}")
    if given is None and record.key is None:
        raise BadUse("no public key in the file: give the meter's own with --key")
    key = given if given is not None else _bytes(record.key or "", "publicKey")
    curve, digest = _CURVES.get(match[1], match[1]), f"SHA{match[2]}"
    numbers = _signature(_bytes(name_of(signature.get("SD")) or "", "SD"))
    payload = record.payload.encode()
    point = _point(key, curve)
    if curve == secp192k1.NAME:
        return secp192k1.verify(point, numbers, payload, digest.lower())
    return _verify(point, _curve(curve), numbers, payload, digest)


def _curve(name: str) -> EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    known = {
        one.name.lower(): one
        for one in (
            ec.SECP192R1(),
            ec.SECP256R1(),
            ec.SECP384R1(),
            ec.SECP521R1(),
            ec.SECP256K1(),
            ec.BrainpoolP256R1(),
            ec.BrainpoolP384R1(),
            ec.BrainpoolP512R1(),
        )
    }
    if name.lower() not in known:
        raise BadUse(f"curve {shown(name)} is not known, expected one of {', '.join(known)}")
    return known[name.lower()]


def _verify(
    point: bytes, curve: EllipticCurve, numbers: tuple[int, int], payload: bytes, digest: str
) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        key.verify(encode_dss_signature(*numbers), payload, ec.ECDSA(getattr(hashes, digest)()))
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadUse(f"the public key is not on {curve.name}: {shown(error)}") from None
    return True


def _point(key: bytes, curve: str) -> bytes:
    """The curve point of a key: SubjectPublicKeyInfo (DER), 04 || X || Y, or X || Y."""
    if key[:1] == b"\x30":
        outer = _der(key, 0x30)
        algorithm, rest = _split(outer)
        point = _der(rest, 0x03)[1:]  # the first byte counts unused bits
        if algorithm[:1] != b"\x30" or not point:
            raise BadUse("the public key is no SubjectPublicKeyInfo")
        return point
    if key[:1] in (b"\x02", b"\x03") and len(key) % 2:
        return key
    return key if key[:1] == b"\x04" and len(key) % 2 else b"\x04" + key


def _signature(data: bytes) -> tuple[int, int]:
    """r and s out of DER, or out of both as plain numbers of one length."""
    if data[:1] == b"\x30":
        try:
            # Some chargers append bytes after the structure; DER itself says where it ends.
            body = _der(data, 0x30)
            first, rest = _split(body)
            return int.from_bytes(_der(first, 0x02), "big"), int.from_bytes(_der(rest, 0x02), "big")
        except BadUse:
            if len(data) not in (48, 64, 96, 128, 132):
                raise
    if not data or len(data) % 2:
        raise BadUse("SD is no ECDSA signature: expected DER, or r and s of one length")
    half = len(data) // 2
    return int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big")


def _der(data: bytes, kind: int) -> bytes:
    """The content of a DER element of this kind at the start of the bytes."""
    if not data or data[0] != kind:
        raise BadUse("the key or signature is not valid DER")
    element, _ = _split(data)
    return element[2 if element[1] < 0x80 else 2 + (element[1] & 0x7F) :]


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The first DER element, head included, and what follows it."""
    if len(data) < 2:
        raise BadUse("the key or signature breaks off")
    head, length = 2, data[1]
    if length >= 0x80:
        head += length & 0x7F
        length = int.from_bytes(data[2:head], "big")
    if head > 6 or len(data) < head + length:
        raise BadUse("the key or signature breaks off")
    return data[: head + length], data[head + length :]


OCMF = Adapter(
    name="ocmf",
    title="OCMF signed charging records, plain or in transparency XML",
    conventions=Conventions(
        sign="1.8, B0-B3 (to the vehicle) is import, 2.8, C0-C3 (from it) export",
        interval="none: registers only, at the events of TX",
        time="TM with offset; a clock that was never set (U) is told",
        units="RU: Wh or kWh",
        register="ST other than G, S or N, or EF: invalid; N: missing",
    ),
    read=read,
)
