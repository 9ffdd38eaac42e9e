# SPDX-License-Identifier: Apache-2.0
"""ECDSA verification on secp192k1, a curve that OCMF allows and `cryptography` does not have.

Public values only, so nothing here runs in constant time. Signing is not offered.
"""

from __future__ import annotations

import hashlib

from dao.errors import BadUse

NAME = "secp192k1"

# SEC 2, version 2.0, section 2.2.1: y^2 = x^3 + 3 over the field of P, generator G of order N.
P = 2**192 - 2**32 - 2**12 - 2**8 - 2**7 - 2**6 - 2**3 - 1
N = 0xFFFFFFFFFFFFFFFFFFFFFFFE26F2FC170F69466A74DEFD8D
G = (
    0xDB4FF10EC057E9AE26B07D0280B7F4341DA5D1B1EAE06C7D,
    0x9B2F2F6D9C5628A7844163D015BE86344082AA88D95E2F9D,
)
_BYTES = 24

_Point = tuple[int, int] | None


def verify(point: bytes, signature: tuple[int, int], message: bytes, digest: str) -> bool:
    """Whether r, s sign the message under a key (04 || X || Y, or 02/03 || X). BadUse if no key."""
    key = _decode(point)
    r, s = signature
    if not (0 < r < N and 0 < s < N):
        return False
    hashed = hashlib.new(digest, message).digest()
    # A digest longer than the order counts with its leftmost bits.
    z = int.from_bytes(hashed[:_BYTES], "big")
    inverse = pow(s, -1, N)
    found = _add(_times(z * inverse % N, G), _times(r * inverse % N, key))
    return found is not None and found[0] % N == r


def _decode(point: bytes) -> tuple[int, int]:
    x = int.from_bytes(point[1 : 1 + _BYTES], "big")
    if point[:1] == b"\x04" and len(point) == 1 + 2 * _BYTES:
        y = int.from_bytes(point[1 + _BYTES :], "big")
    elif point[:1] in (b"\x02", b"\x03") and len(point) == 1 + _BYTES:
        y = pow((x**3 + 3) % P, (P + 1) // 4, P)
        y = y if y % 2 == point[0] % 2 else P - y
    else:
        raise BadUse("the public key is not on secp192k1")
    if x >= P or y >= P or (y * y - x**3 - 3) % P:
        raise BadUse("the public key is not on secp192k1")
    return x, y


def _add(a: _Point, b: _Point) -> _Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _times(factor: int, point: _Point) -> _Point:
    result: _Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result
