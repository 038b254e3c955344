"""The second net against secrets in log lines: what looks like one is masked, wherever it stands.

The first net is that no event holds a secret. Texts of libraries and of exceptions are not ours, though.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

MASK: Final = "***"
_MIN_SECRET_CHARACTERS: Final = 6  # Shorter ones would mask innocent words; whoever sets them is warned elsewhere.

_API_KEY = re.compile(r"zpm_[0-9A-Za-z]{8,}")
_PASSWORD_IN_URL = re.compile(r"(://[^\s:/@?#\"'<>]*):[^\s/]*@")
_PASSWORD_IN_QUERY = re.compile(r"(?i)\b(password|passwd|api_key|token)=[^\s&;,\"']+")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[0-9A-Za-z._~+/=-]{8,}")
_DEVICE_JID = re.compile(r"\d{1,20}(?:[.:_]\d{1,10}){0,3}@(?=(?:s\.whatsapp\.net|c\.us|lid|g\.us)\b)")
_QR_CODE = re.compile(r"\b\d@[0-9A-Za-z+/=]{16,}(?:,[0-9A-Za-z+/=]+)*")
_KEY_HASH = re.compile(r"(:key:[0-9a-f]{8})[0-9a-f]{56}\b")


def make_redactor(secrets: Sequence[str] = ()) -> Callable[[str], str]:
    """Return a function that masks secrets in a text.

    Args:
        secrets: this service's own passwords and keys in clear, masked wherever they appear; those
            under 6 characters are left out.
    """
    known = sorted({secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARACTERS}, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in known:
            if secret in text:
                text = text.replace(secret, MASK)
        return _mask_patterns(text) if _is_suspicious(text) else text

    return redact


def _is_suspicious(text: str) -> bool:
    """Tell whether a pattern can match at all: nearly never, and this is five times faster than the patterns."""
    return "@" in text or "=" in text or "zpm_" in text or ":key:" in text or "earer " in text or "asic " in text


def _mask_patterns(text: str) -> str:
    text = _API_KEY.sub(f"zpm_{MASK}", text)
    text = _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)
    text = _PASSWORD_IN_QUERY.sub(rf"\1={MASK}", text)
    text = _AUTHORIZATION.sub(rf"\1 {MASK}", text)
    text = _DEVICE_JID.sub(f"{MASK}@", text)
    text = _KEY_HASH.sub(rf"\1{MASK}", text)
    return _QR_CODE.sub(MASK, text)
