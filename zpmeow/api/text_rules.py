"""The rules for texts that callers send: a pattern, a length, and the rule in words for whoever breaks it.

The same pattern checks the value and stands in the OpenAPI document, so the two cannot drift apart. The
patterns keep to what Python and ECMA 262 read alike.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from zpmeow.domain.proxy import MASK, split_password
from zpmeow.services.commands import CURSOR_PATTERN


@dataclass(frozen=True)
class TextRule:
    """A text must match `pattern` as a whole and have between `shortest` and `longest` characters.

    `says` completes the sentence "<field> must be …", for people; `example` keeps the rule.
    """

    pattern: str
    shortest: int
    longest: int
    says: str
    example: str
    refuses_mask: bool = False
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the pattern once."""
        object.__setattr__(self, "_compiled", re.compile(self.pattern))

    def allows(self, value: str) -> bool:
        """Tell whether the text keeps the rule."""
        return self.shortest <= len(value) <= self.longest and self._compiled.fullmatch(value) is not None

    def check(self, value: str) -> str:
        """Return the text, or raise what pydantic collects. The error never repeats the text."""
        if not self.allows(value):
            kind = "text_rule"
            raise PydanticCustomError(kind, "must be {says}", {"says": self.says})
        if self.refuses_mask and split_password(value)[1] == MASK:
            kind = "masked_password"
            raise PydanticCustomError(kind, "has *** for its password: send the password itself")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after the type."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say the same in JSON Schema."""
        described = handler(schema)
        described.update(
            pattern=f"^(?:{self.pattern})$",
            minLength=self.shortest,
            maxLength=self.longest,
            description=self.says,
            examples=[self.example],
        )
        return described


def _no_twins(values: Sequence[str]) -> Sequence[str]:
    if len(set(values)) != len(values):
        kind = "twins"
        raise PydanticCustomError(kind, "must not name anything twice")
    return values


@dataclass(frozen=True)
class _UniqueItems:
    """No item of the list may stand in it twice."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_no_twins, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        described["uniqueItems"] = True
        return described


unique_items = _UniqueItems()

_HEX = "[0-9A-Fa-f]"
_UUID = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_GROUP = f"{_HEX}{{1,4}}"
_IPV6 = "|".join(
    (
        f"(?:{_GROUP}:){{7}}{_GROUP}",
        f"(?:{_GROUP}:){{1,7}}:",
        *(f"(?:{_GROUP}:){{1,{7 - tail}}}(?::{_GROUP}){{1,{tail}}}" for tail in range(1, 7)),
        f":(?::{_GROUP}){{1,7}}",
        "::",
    )
)
_HOST = rf"(?:[A-Za-z0-9_][A-Za-z0-9_.~-]{{0,252}}|\[(?:{_IPV6})\])"
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_REST = "(?:[/?#][!-~]*)?"
# Percent-escapes of printable ASCII and of UTF-8 in two or three bytes: what decodes to text without NUL.
_TAIL = "%[89ABab][0-9A-Fa-f]"
_ESCAPE = (
    "%(?:[2-6][0-9A-Fa-f]|7[0-9A-Ea-e])"
    f"|%(?:[Cc][2-9A-Fa-f]|[Dd][0-9A-Fa-f]){_TAIL}"
    f"|%[Ee][1-9A-CE-Fa-ce-f]{_TAIL}{_TAIL}"
)
_USER = rf"(?:[A-Za-z0-9._~!$&'()*+,;=-]|{_ESCAPE})"
_PASSWORD = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|{_ESCAPE})"

NAME = TextRule(
    pattern=f"(?!{_UUID}$)[A-Za-z0-9._-]+",
    shortest=3,
    longest=50,
    says="3 to 50 of A-Z a-z 0-9 . _ - and not a UUID",
    example="test-session",
)
OWN_API_KEY = TextRule(
    pattern="(?!zpm_)[!-~]+",
    shortest=32,
    longest=100,
    says="32 to 100 printable ASCII characters without spaces, not starting with zpm_",
    example="my-own-key-of-at-least-32-characters",
)
WEBHOOK_URL = TextRule(
    pattern=f"https?://{_HOST}(?::{_PORT})?{_REST}",
    shortest=8,
    longest=2048,
    says="an http:// or https:// URL with a host, in ASCII, without user or password, at most 2048 characters",
    example="https://example.org/hook",
)
PROXY_URL = TextRule(
    pattern=f"(?:https?|socks5)://(?:{_USER}+(?::{_PASSWORD}+)?@)?{_HOST}(?::{_PORT})?/?",
    shortest=8,
    longest=2048,
    says="an http://, https:// or socks5:// URL with a host and no path, in ASCII, at most 2048 characters",
    example="socks5://user:password@proxy.example.org:1080",
    refuses_mask=True,
)
EVENT_NAME = TextRule(
    pattern="[A-Za-z0-9._:*/-]+",
    shortest=1,
    longest=64,
    says="1 to 64 of A-Z a-z 0-9 . _ : * / -",
    example="message",
)
DEVICE_JID = TextRule(
    pattern="[A-Za-z0-9][A-Za-z0-9._:-]*@[a-z0-9][a-z0-9.-]*",
    shortest=3,
    longest=128,
    says="a JID: user@server, at most 128 characters",
    example="5511999999999:12@s.whatsapp.net",
)
# 2,953 bytes fit into the largest QR code at the lowest error correction; 2,048 leave room.
QR_CODE = TextRule(
    pattern="[ -~]+",
    shortest=1,
    longest=2048,
    says="1 to 2048 printable ASCII characters",
    example="2@AbCdEf",
)
PAIRING_CODE = TextRule(
    pattern="[!-~]+",
    shortest=1,
    longest=64,
    says="1 to 64 printable ASCII characters without spaces",
    example="ABCD-EFGH",
)
PHONE = TextRule(
    pattern="[0-9]+",
    shortest=10,
    longest=15,
    says="10 to 15 digits, with the country's code and without a plus",
    example="5511999999999",
)
COMMAND_CURSOR = TextRule(
    pattern=f"(?:{CURSOR_PATTERN})?",
    shortest=0,
    longest=51,
    says="empty, or next_cursor of the answer before",
    example="",
)
REASON = TextRule(
    pattern="[^\\u0000-\\u001f\\u007f]*",
    shortest=0,
    longest=500,
    says="at most 500 characters without control characters",
    example="banned",
)
