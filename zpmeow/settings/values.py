"""How the text of one variable becomes a value: numbers, durations, sizes, hosts, URLs.

Each function here makes a validator for pydantic. A refusal says what was expected and never what was
found: the text may be a secret that landed in the wrong variable. Values that are no text (settings
made by code, in tests) are taken as they are.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_NUMBER = re.compile(r"[0-9]{1,12}")
_RATIO = re.compile(r"[0-9]?(?:\.[0-9]{1,9})?")
_WORDS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_MAX_PORT = 65535
_DATABASE_SCHEMES: Final = ("postgresql", "postgres")
_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
_LATER_REDIS_SCHEMES: Final = ("redis+sentinel", "redis+cluster")


def refuse(expected: str) -> PydanticCustomError:
    """Return the error that stops the start; `expected` must hold nothing of the refused value."""
    return PydanticCustomError("setting", "{expected}", {"expected": expected})


def duration(least: str, most: str, *, zero_is_off: bool = False) -> BeforeValidator:
    """Read a duration such as `250ms` into seconds, from `least` to `most`, or also 0."""
    low, high = _seconds(least), _seconds(most)
    assert low is not None
    assert high is not None
    expected = f"expected a duration from {least} to {most}, such as 250ms, 5s, 5m or 24h"
    if zero_is_off:
        expected += ", or 0 to turn it off"

    def parse(text: str) -> float:
        seconds = 0.0 if text == "0" else _seconds(text)
        if seconds is None or not (low <= seconds <= high or (zero_is_off and seconds == 0)):
            raise refuse(expected)
        return seconds

    return _text_validator(parse)


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def size(most: str) -> BeforeValidator:
    """Read a size such as `64MiB`, or `0`, into bytes, up to `most`."""
    high = _bytes(most)
    assert high is not None
    expected = f"expected a size up to {most}, such as 512KiB or 64MiB, or 0 to turn it off"

    def parse(text: str) -> int:
        count = 0 if text == "0" else _bytes(text)
        if count is None or count > high:
            raise refuse(expected)
        return count

    return _text_validator(parse)


def _bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    return None if match is None else int(match[1]) * _BYTES[match[2]]


def whole_number(least: int, most: int) -> BeforeValidator:
    """Read a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        number = int(text) if _NUMBER.fullmatch(text) else -1
        if not least <= number <= most:
            expected = f"expected a whole number from {least} to {most}"
            raise refuse(expected)
        return number

    return _text_validator(parse)


def ratio() -> BeforeValidator:
    """Read a share above 0, at most 1."""

    def parse(text: str) -> float:
        share = float(text) if text not in {"", "."} and _RATIO.fullmatch(text) else -1.0
        if not 0 < share <= 1:
            expected = "expected a number above 0 and at most 1, such as 0.5"
            raise refuse(expected)
        return share

    return _text_validator(parse)


def yes_or_no() -> BeforeValidator:
    """Read true or false, in any of the usual spellings."""

    def parse(text: str) -> bool:
        value = _WORDS.get(text.lower())
        if value is None:
            expected = "expected true or false"
            raise refuse(expected)
        return value

    return _text_validator(parse)


def one_of(*words: str) -> BeforeValidator:
    """Read one of some lower-case words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            expected = f"expected one of {', '.join(words)}"
            raise refuse(expected)
        return text.lower()

    return _text_validator(parse)


def token() -> BeforeValidator:
    """Read a key that must fit into an HTTP header: visible ASCII without blanks."""

    def parse(text: str) -> str:
        if not (text.isascii() and text.isprintable() and " " not in text):
            expected = "expected visible ASCII characters without blanks (is there a line end or a quote too many?)"
            raise refuse(expected)
        return text

    return _text_validator(parse)


def host_name(*, or_socket: bool = False) -> BeforeValidator:
    """Read a host name or an IP address (brackets are taken off), or the path of a Unix socket."""
    expected = "expected a host name or an IP address" + (", or the path of a Unix socket" if or_socket else "")

    def parse(text: str) -> str:
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        is_socket = or_socket and bare.startswith("/")
        if not (is_socket or _HOST_NAME.fullmatch(bare) or _is_ip_address(bare)):
            raise refuse(expected)
        return bare

    return _text_validator(parse)


def database_url() -> BeforeValidator:
    """Read the URL of a PostgreSQL database."""

    def parse(text: str) -> str:
        if not _is_url(text, _DATABASE_SCHEMES):
            expected = "expected postgresql://USER:PASSWORD@HOST:PORT/NAME, with special characters in % notation"
            raise refuse(expected)
        return text

    return _text_validator(parse)


def redis_url() -> BeforeValidator:
    """Read the URL of a Redis server."""

    def parse(text: str) -> str:
        scheme = text.partition("://")[0].lower()
        if scheme in _LATER_REDIS_SCHEMES:
            expected = f"{scheme}:// is not supported yet; expected redis://, rediss:// or unix://"
            raise refuse(expected)
        if not _is_url(text, _REDIS_SCHEMES) or not _has_redis_path(text):
            expected = (
                "expected redis://:PASSWORD@HOST:PORT/DB, rediss://… or unix:///PATH?db=DB,"
                " with special characters in % notation"
            )
            raise refuse(expected)
        return text

    return _text_validator(parse)


def database_url_of(*, host: str, port: int, user: str, password: str | None, name: str, ssl_mode: str | None) -> str:
    """Put the URL of a PostgreSQL database together; a host that is a path is a Unix socket's folder."""
    login = quote(user, safe="") + ("" if password is None else ":" + quote(password, safe=""))
    query = {} if ssl_mode is None else {"sslmode": ssl_mode}
    if host.startswith("/"):
        query = {"host": host, "port": str(port)} | query
        address = ""
    else:
        address = f"{_in_url(host)}:{port}"
    tail = f"?{urlencode(query)}" if query else ""
    return f"postgresql://{login}@{address}/{quote(name, safe='')}{tail}"


def redis_url_of(*, host: str, port: int, password: str | None, db: int) -> str:
    """Put the URL of a Redis server together; a host that is a path is a Unix socket."""
    if host.startswith("/"):
        query = {"db": str(db)} | ({} if password is None else {"password": password})
        return f"unix://{quote(host)}?{urlencode(query)}"
    login = "" if password is None else f":{quote(password, safe='')}@"
    return f"redis://{login}{_in_url(host)}:{port}/{db}"


def without_credentials(url: str) -> str:
    """Return where a URL of ours leads, fit to be shown: no user, no password, no query but a socket's folder."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    socket = parse_qs(parts.query).get("host", [""])[-1]
    return f"{parts.scheme}://{address or socket}{unquote(parts.path)}"


def passwords_in(url: str | None) -> list[str]:
    """Return the password that stands in a URL, as it is written and as it is meant."""
    if url is None:
        return []
    parts = urlsplit(url)
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    found = {written, unquote(written), *parse_qs(parts.query).get("password", [])}
    return sorted(found - {""})


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a listener on that host.

    Names other than localhost are taken for public: what they lead to may change.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _text_validator(parse: Callable[[str], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    if not (text.isascii() and text.isprintable() and " " not in text):
        return False
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or 0 < parts.port <= _MAX_PORT
    except ValueError:
        # A list of hosts (libpq's `h1:1,h2:2`) has no one port; its driver will read it.
        return "," in text.partition("://")[2] and text.partition("://")[0] in schemes
    return parts.scheme in schemes and "://" in text and not parts.fragment and port_is_valid


def _has_redis_path(text: str) -> bool:
    parts = urlsplit(text)
    if parts.scheme == "unix":
        return len(parts.path) > 1
    return bool(parts.hostname) and re.fullmatch(r"/?|/[0-9]{1,5}", parts.path) is not None


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _in_url(host: str) -> str:
    return f"[{quote(host, safe=':')}]" if ":" in host else host
