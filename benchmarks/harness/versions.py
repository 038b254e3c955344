"""What is compared, and with which load: a peer's figure says little without the peer's version."""

import subprocess
from importlib import metadata

from benchmarks.harness.wrk import find_wrk

_PACKAGES = {
    "aiohttp": "aiohttp",
    "uvloop": "uvloop",
    "asyncpg": "asyncpg",
    "redis-py": "redis",
    "hiredis": "hiredis",
    "cashews": "cashews",
    "aiocache": "aiocache",
    "orjson": "orjson",
}


def versions() -> str:
    """Return a line of Markdown that names them. Raises LoadFailedError."""
    named = [f"{name} {_version(package)}" for name, package in _PACKAGES.items()]
    return f"- {', '.join(named)}, wrk {_wrk_version()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _wrk_version() -> str:
    # `wrk <version> [epoll] …`, then how it is used; it ends with 1.
    words = subprocess.run([find_wrk(), "-v"], check=False, capture_output=True, text=True, timeout=60).stdout.split()
    return words[1] if len(words) > 1 else "unknown"
