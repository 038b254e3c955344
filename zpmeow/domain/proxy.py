"""Proxy URLs and the password in them: taken out before the URL goes anywhere but the database."""

from urllib.parse import quote, unquote, urlsplit, urlunsplit

MASK = "***"


def split_password(url: str) -> tuple[str, str | None]:
    """Return the URL without its password, and the password (decoded), None if there is none."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    userinfo, _, host = parts.netloc.rpartition("@")
    user = userinfo.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(parts.password)


def with_password(url: str, password: str) -> str:
    """Put a password into a URL that `split_password` took it from."""
    return _with_userinfo_tail(url, quote(password, safe=""))


def with_mask(url: str) -> str:
    """Show that there is a password, as `***`."""
    return _with_userinfo_tail(url, MASK)


def _with_userinfo_tail(url: str, tail: str) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{tail}@{host}"))
