"""API keys of sessions: how they are made, checked without a look-up, and hashed.

A generated key is `zpm_`, 32 characters of base62 drawn at random (190 bits), and 6 characters of
checksum (CRC-32 of what stands before it, in base62, as GitHub's tokens have it). Junk is refused by
the checksum alone. A key brought by the caller has 32 to 100 characters and does not start with `zpm_`.
"""

import hashlib
import secrets
import zlib

PREFIX = "zpm_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 32  # log2(62) * 32 = 190 bits; the contract asks for 160.
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32: every CRC-32 fits.
_GENERATED_LENGTH = len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH
MIN_LENGTH = 32
MAX_LENGTH = 100


def generate_api_key() -> str:
    """Return a new key, 42 characters."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return body + _checksum(body)


def is_plausible_api_key(key: str) -> bool:
    """Tell whether the text can be a session's key at all, without looking anything up."""
    if key.startswith(PREFIX):
        return (
            len(key) == _GENERATED_LENGTH
            and key.isascii()
            and secrets.compare_digest(_checksum(key[:-_CHECKSUM_LENGTH]), key[-_CHECKSUM_LENGTH:])
        )
    return MIN_LENGTH <= len(key) <= MAX_LENGTH and key.isascii() and key.isprintable()


def hash_api_key(key: str) -> bytes:
    """Return the SHA-256 of the key, 32 bytes: all that is ever stored of it.

    Plain SHA-256 without salt or stretching is right for random keys of 160 bits and more: there is
    nothing to guess. A key brought by the caller is only as strong as the caller made it.
    """
    return hashlib.sha256(key.encode()).digest()


def same_secret(first: bytes, second: bytes) -> bool:
    """Compare two secrets or hashes in constant time."""
    return secrets.compare_digest(first, second)


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("utf-8", "replace"))
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
