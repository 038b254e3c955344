"""The format of an entry: who wrote it, of which version, until when it holds, and a checksum over all.

An entry read back is either exactly what some process of ours wrote under that very key, or corrupt.
Layout (big-endian, 76 bytes, then the payload):

    offset size
    0      4    magic: "zpm", then the format's number
    4      1    kind: the entity's number
    5      1    flags: 1 = value, 0 = fence ("nothing below this version"; it has no payload)
    6      2    schema: the number of the payload's encoding
    8      16   epoch of the database
    24     8    version of the row
    32     8    fingerprint of the key (BLAKE2b)
    40     8    written at      ┐
    48     8    fresh until     ├ milliseconds since 1970 by the database's clock
    56     8    usable until    ┘ (stale, when the database is away)
    64     4    length of the payload
    68     8    checksum (BLAKE2b over bytes 0 to 67 and the payload)

The Lua script that writes set-if-newer reads epoch, version and flags at their offsets; nothing else.
A keyless BLAKE2b of 64 bits costs about 1 µs an entry, finds every change that is not meant to deceive,
and, unlike CRC-32, leaves no one in four thousand million chance a reading.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

MAGIC = b"zpm\x01"
FLAGS_OFFSET = 5
EPOCH_OFFSET = 8
VERSION_OFFSET = 24
HEADER_BYTES = 76
MAX_ENVELOPE_BYTES = 256 * 1024  # Far above any record (the largest has about 20 KiB); what is larger is not ours.

_HEADER = struct.Struct(">4sBBH16sQ8sQQQI8s")
_CHECKSUM_OFFSET = 68
_DIGEST_BYTES = 8
_VALUE = 1
_FENCE = 0


class Corruption(StrEnum):
    """Why bytes are not an envelope that may be used."""

    SIZE = "size"
    MAGIC = "magic"
    CHECKSUM = "checksum"
    KEY = "key"
    SCHEMA = "schema"


@dataclass(slots=True, kw_only=True)
class Envelope:
    """A decoded entry. `payload` is None for a fence. Times: milliseconds since 1970, database clock."""

    kind: int
    schema: int
    epoch: bytes
    version: int
    written_at_ms: int
    fresh_until_ms: int
    usable_until_ms: int
    payload: bytes | None

    def encode(self, key: str) -> bytes:
        """Return the bytes to store under `key`. Raises ValueError if they would be too large."""
        payload = self.payload or b""
        if len(payload) + HEADER_BYTES > MAX_ENVELOPE_BYTES:
            message = f"a payload of {len(payload)} bytes is too large for an entry"
            raise ValueError(message)
        flags = _FENCE if self.payload is None else _VALUE
        head = _HEADER.pack(
            MAGIC,
            self.kind,
            flags,
            self.schema,
            self.epoch,
            self.version,
            _fingerprint(key),
            self.written_at_ms,
            self.fresh_until_ms,
            self.usable_until_ms,
            len(payload),
            bytes(_DIGEST_BYTES),
        )[:_CHECKSUM_OFFSET]
        return head + _checksum(head, payload) + payload


def decode(data: bytes, *, key: str, kind: int, schema: int) -> Envelope | Corruption:
    """Read the bytes that stood under `key`, where an entry of this kind and schema belongs."""
    if not HEADER_BYTES <= len(data) <= MAX_ENVELOPE_BYTES:
        return Corruption.SIZE
    magic, found_kind, flags, found_schema, epoch, version, fingerprint, written, fresh, usable, size, checksum = (
        _HEADER.unpack_from(data)
    )
    payload = data[HEADER_BYTES:]
    if magic != MAGIC:
        return Corruption.MAGIC
    if len(payload) != size or checksum != _checksum(data[:_CHECKSUM_OFFSET], payload):
        return Corruption.CHECKSUM
    if fingerprint != _fingerprint(key):
        return Corruption.KEY
    if (found_kind, found_schema) != (kind, schema):
        return Corruption.SCHEMA
    return Envelope(
        kind=found_kind,
        schema=found_schema,
        epoch=epoch,
        version=version,
        written_at_ms=written,
        fresh_until_ms=fresh,
        usable_until_ms=usable,
        payload=payload if flags == _VALUE else None,
    )


@lru_cache(maxsize=4096)
def _fingerprint(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()


def _checksum(head: bytes, payload: bytes) -> bytes:
    return blake2b(head + payload, digest_size=_DIGEST_BYTES).digest()
