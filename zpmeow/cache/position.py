"""The position: up to where the change log has been applied to what stands in the tier, told by the tier itself.

It lies beside the entries, without a lifetime, and is written by the relay together with them. So whatever state
a server comes back in (an old snapshot, a lagging replica, the last second of its log lost), its position is as old
as its entries and tells what they have not seen. Readers get it with every read, and the script that writes values
compares with it: the first 28 bytes have fixed places.

    offset size
    0      4    magic: "zpp", then the format's number
    4      16   epoch of the database
    20     8    at: milliseconds since 1970 by the database's clock, big-endian
    28     8    checksum (BLAKE2b over all the rest)
    36          JSON: database, snapshot, anchor, beat
"""

import secrets
import struct
from dataclasses import dataclass
from hashlib import blake2b

import orjson

POSITION_KEY = "zpmeow:position"
HEADER_BYTES = 28
_MAGIC = b"zpp\x01"
_HEADER = struct.Struct(">4s16sQ")
_DIGEST_BYTES = 8
_UNREADABLE = (ValueError, TypeError, KeyError)


@dataclass(slots=True, frozen=True, kw_only=True)
class Position:
    """All changes that were visible in `snapshot` have been applied; it was taken at or after `at_ms`.

    Attributes:
        epoch: of the database; entries of another one are void.
        database: which database this is: 16 bytes of system, timeline and database.
        at_ms: by the database's clock; grows with every position of an epoch.
        snapshot: (xmin, xmax, those in between that still ran), as PostgreSQL's pg_snapshot.
        anchor: (txid, seq, nonce in hexadecimal digits) of the newest line applied: a log without it is another log.
        beat: drawn anew for each write, so that a server that was set back in between is noticed.
    """

    epoch: bytes
    database: bytes
    at_ms: int
    snapshot: tuple[int, int, tuple[int, ...]]
    anchor: tuple[int, int, str]
    beat: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Of two positions of one epoch and database, the one with the higher order is the newer."""
        return (self.snapshot[1], self.at_ms)

    def encode(self) -> bytes:
        """Return the bytes to store, with a new beat: they differ from all that were stored before."""
        head = _HEADER.pack(_MAGIC, self.epoch, self.at_ms)
        body = orjson.dumps([self.database.hex(), self.snapshot, self.anchor, secrets.token_hex(8)])
        return head + _checksum(head, body) + body


def decode_position(data: bytes) -> Position | None:
    """Read what `encode` wrote; None for anything else."""
    if len(data) < HEADER_BYTES + _DIGEST_BYTES:
        return None
    magic, epoch, at_ms = _HEADER.unpack_from(data)
    body = data[HEADER_BYTES + _DIGEST_BYTES :]
    if magic != _MAGIC or data[HEADER_BYTES : HEADER_BYTES + _DIGEST_BYTES] != _checksum(data[:HEADER_BYTES], body):
        return None
    try:
        database, (xmin, xmax, running), (txid, seq, nonce), beat = orjson.loads(body)
        return Position(
            epoch=epoch,
            database=bytes.fromhex(database),
            at_ms=at_ms,
            snapshot=(xmin, xmax, tuple(running)),
            anchor=(txid, seq, nonce),
            beat=beat,
        )
    except _UNREADABLE:
        return None


def _checksum(head: bytes, body: bytes) -> bytes:
    return blake2b(head + body, digest_size=_DIGEST_BYTES).digest()
