"""The folder under which the embedded servers keep their files, and its lock.

The lock is a flock on the file `lock`, which the kernel drops with the process however it ends. The file itself stays:
removing it would let a second process lock a new file of the same name. The pid in it is for the message only.
"""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

from zpmeow.embedded.errors import DataFolderTaken, DataFolderUnusable
from zpmeow.embedded.server_account import ServerAccount, account_for_servers

DEFAULT_FOLDER = Path("data")
SYSTEM_FOLDER = Path("/var/lib/zpmeow")

SOCKET_PATH_BYTES = 107
"""What `sockaddr_un` holds on Linux, without the final zero."""

LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
HARMLESS_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""Commas and colons part hosts in addresses, spaces part words in settings: such folders get a short socket folder."""


class DataFolder:
    """A data folder that this process, and no other, may use until it is closed."""

    def __init__(self, *, path: Path, account: ServerAccount) -> None:
        """Take over a folder that exists; use `open_data_folder`."""
        self.path = path
        self.account = account
        self._lock = _lock(path)
        self._short_folder: Path | None = None

    def __repr__(self) -> str:
        """Show where it is and for whom."""
        return f"DataFolder(path={str(self.path)!r}, account={self.account.name!r})"

    def __enter__(self) -> Self:
        """Return the folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock it."""
        self.close()

    def close(self) -> None:
        """Let others have the folder; safe to call twice, and only right once no server runs in it."""
        if self._short_folder is not None:
            (self.path / "run.path").unlink(missing_ok=True)
            shutil.rmtree(self._short_folder, ignore_errors=True)
            self._short_folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def private_folder(self, name: str) -> Path:
        """Make a folder in it that only the servers' account (and root) can look into."""
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self.account.own(folder, mode=0o700)
        except OSError as error:
            message = f"{folder} cannot be used: {_reason(error)}"
            raise DataFolderUnusable(message) from error
        return folder

    def socket_folder(self) -> Path:
        """Find or make the folder for the servers' sockets: `run`, or a short one elsewhere, noted in `run.path`.

        The note is how the next start finds servers that a killed service left behind.
        """
        folder = self.path / "run"
        if _suits_sockets(folder):
            return self.private_folder("run")
        note = self.path / "run.path"
        if note.exists():
            noted = Path(note.read_text(encoding="utf-8"))
            if self._is_private(noted):
                self._short_folder = noted
                return noted
        self._short_folder = self._make_short_folder()
        note.write_text(str(self._short_folder), encoding="utf-8")
        return self._short_folder

    def _make_short_folder(self) -> Path:
        # Root's own runtime folder is closed to the servers' account.
        runtime = None if self.account.is_switched else os.environ.get("XDG_RUNTIME_DIR")
        for parent in (runtime, "/tmp"):  # noqa: S108  (mkdtemp makes an unguessable private folder in it)
            if not parent or not os.access(parent, os.W_OK | os.X_OK):
                continue
            made = Path(tempfile.mkdtemp(prefix="zpmeow-", dir=parent))
            if _suits_sockets(made):
                self.account.own(made, mode=0o700)
                return made
            made.rmdir()
        message = f"the path of {self.path} is too long for sockets, and /tmp cannot be written: set ZPMEOW_DATA_DIR"
        raise DataFolderUnusable(message)

    def _is_private(self, folder: Path) -> bool:
        """Check a folder in a place where everybody may make one: it must be a real folder, closed, and ours."""
        try:
            status = folder.lstat()
        except OSError:
            return False
        private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
        return private and status.st_uid == self.account.uid


def open_data_folder(wanted: Path | None) -> DataFolder:
    """Choose the data folder, make it if need be, and lock it.

    Args:
        wanted: what ZPMEOW_DATA_DIR says; None for `./data`, or `/var/lib/zpmeow` where this process is root and the
            account of the servers cannot reach `./data`.

    Raises:
        DataFolderTaken: another process has it.
        DataFolderUnusable: it cannot be made, written or reached.
        ServerAccountMissing: as root, there is no account for the servers.
    """
    path = (wanted or DEFAULT_FOLDER).absolute()
    account = account_for_servers(owner_of=path / "postgres")
    if wanted is None and not _is_reachable(path, account):
        path = SYSTEM_FOLDER
        account = account_for_servers(owner_of=path / "postgres")
    if not _is_reachable(path, account):
        message = (
            f"the data folder {path} cannot be reached by the account {account.name!r} that the servers run under:"
            " open the folders above it (chmod o+x), or set ZPMEOW_DATA_DIR to another one"
        )
        raise DataFolderUnusable(message)
    try:
        _make(path, mode=0o711 if account.is_switched else 0o700)
    except OSError as error:
        message = f"the data folder {path} cannot be made: {_reason(error)}; set ZPMEOW_DATA_DIR to another one"
        raise DataFolderUnusable(message) from error
    return DataFolder(path=path, account=account)


def _is_reachable(path: Path, account: ServerAccount) -> bool:
    """Tell whether the account can enter the folder, or the nearest one above it that exists."""
    if not account.is_switched:
        return True  # The servers run as this process does: it finds out by itself.
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return account.can_enter(existing)


def _make(path: Path, *, mode: int) -> None:
    """Make a folder and what is missing above it; folders that were there keep their permissions."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=mode, exist_ok=True)
        folder.chmod(mode)  # Whatever the umask took away.


def _lock(path: Path) -> int | None:
    file = path / "lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        message = f"the data folder {path} cannot be written: {_reason(error)}; set ZPMEOW_DATA_DIR to another one"
        raise DataFolderUnusable(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        holder = f"process {pid}" if pid else "another process"
        message = f"the data folder {path} is in use by {holder}: stop it, or set ZPMEOW_DATA_DIR to another folder"
        raise DataFolderTaken(message) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _suits_sockets(folder: Path) -> bool:
    longest = os.fsencode(folder / LONGEST_SOCKET_NAME)
    return len(longest) <= SOCKET_PATH_BYTES and HARMLESS_PATH.fullmatch(str(folder)) is not None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
