"""What a result was measured with: a figure without its machine and its versions says little."""

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from tests.servers.postgres_server import PostgresInstallation
from tests.servers.redis_server import find_redis_server
from tests.servers.service import REPOSITORY
from zpmeow import __version__


def describe(command: str) -> list[str]:
    """Return lines of Markdown: command, date, commit, versions, machine."""
    return [
        f"- Command: `{command}`",
        f"- Date: {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        f"- zpmeow {__version__}, commit {_commit()}",
        f"- Python {platform.python_version()}, PostgreSQL {_postgres_version()}, Redis {_redis_version()}",
        f"- {os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB of memory",
    ]


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    commit = _output(git, "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD").strip()
    changed = _output(git, "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no").strip()
    return f"{commit or 'unknown'}{' and changes' if changed else ''}"


def _postgres_version() -> str:
    installation = PostgresInstallation()
    try:
        return _number(installation.run("postgres", "--version"))
    finally:
        installation.close()


def _redis_version() -> str:
    return _number(_output(find_redis_server(), "--version"))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _number(text: str) -> str:
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found[0] if found else "unknown"


def _output(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout
