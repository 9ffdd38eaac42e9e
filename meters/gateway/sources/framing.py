# SPDX-License-Identifier: Apache-2.0
"""Where a telegram begins and ends in a stream of bytes. Whether it is whole its checksum says,
and that the adapters look at."""

from __future__ import annotations

from abc import ABC, abstractmethod

MAX_BUFFER = 1 << 16
"""More than any telegram: what grows beyond it is noise, and its oldest half is dropped."""

_ESCAPE = b"\x1b\x1b\x1b\x1b"
_SML_START = _ESCAPE + b"\x01\x01\x01\x01"
_SML_END = 0x1A
_CIPHER = b"\xdb\x08"
"""Tag and title length of a DLMS general-global-cipher frame, as Luxembourg's meters send them."""


class Framer(ABC):
    """Cuts telegrams out of a stream."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The telegrams that are complete with these bytes."""
        self._buffer += data
        if len(self._buffer) > MAX_BUFFER:
            self._buffer = self._buffer[-MAX_BUFFER // 2 :]
        found = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    @abstractmethod
    def _next(self) -> bytes | None:
        """The next whole telegram, taken out of the buffer with what lies before it."""


class P1Framer(Framer):
    """P1 telegrams: from `/` to the end of the line that begins with `!`; or encrypted frames."""

    def _next(self) -> bytes | None:
        plain, cipher = self._buffer.find(b"/"), self._buffer.find(_CIPHER)
        if cipher >= 0 and (plain < 0 or cipher < plain):
            return self._encrypted(cipher)
        if plain < 0:
            self._buffer = self._buffer[-1:] if self._buffer.endswith(_CIPHER[:1]) else b""
            return None
        end = self._buffer.find(b"!", plain)
        line = self._buffer.find(b"\n", end) if end >= 0 else -1
        if line < 0:
            self._buffer = self._buffer[plain:]
            return None
        # A telegram that broke off is followed by the next one's begin.
        begin = self._buffer.rfind(b"/", plain, end)
        # The header itself may hold a slash; a telegram's first stands at the begin of a line.
        while begin > plain and self._buffer[begin - 1 : begin] != b"\n":
            begin = self._buffer.rfind(b"/", plain, begin)
        telegram = self._buffer[max(begin, plain) : line + 1]
        self._buffer = self._buffer[line + 1 :]
        return telegram

    def _encrypted(self, at: int) -> bytes | None:
        frame = self._buffer[at:]
        if len(frame) < 13:
            self._buffer = frame
            return None
        extra = frame[10] & 0x7F if frame[10] & 0x80 else 0
        if extra > 3:
            self._buffer = frame[1:]
            return self._next()
        length = int.from_bytes(frame[11 : 11 + extra] if extra else frame[10:11], "big")
        end = 11 + extra + length
        if end > MAX_BUFFER // 2:
            self._buffer = frame[1:]
            return self._next()
        if len(frame) < end:
            self._buffer = frame
            return None
        self._buffer = frame[end:]
        return frame[:end]


class SmlFramer(Framer):
    """SML files: from their start sequence to the end sequence with fill bytes and CRC."""

    def _next(self) -> bytes | None:
        begin = self._buffer.find(_SML_START)
        if begin < 0:
            self._buffer = self._buffer[-(len(_SML_START) - 1) :]
            return None
        self._buffer = self._buffer[begin:]
        at = len(_SML_START)
        while (at := self._buffer.find(_ESCAPE, at)) >= 0:
            after = self._buffer[at + 4 : at + 8]
            if len(after) < 4:
                return None
            if after == _ESCAPE:  # four escapes within the file are sent twice
                at += 8
            elif after[0] == _SML_END:
                file, self._buffer = self._buffer[: at + 8], self._buffer[at + 8 :]
                return file
            elif after == _SML_START[4:]:  # the file before it broke off
                self._buffer = self._buffer[at:]
                at = len(_SML_START)
            else:
                at += 1
        return None
