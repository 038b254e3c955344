"""Why the embedded servers are not there. Each message is one clear line for the person who started the service.

EmbeddedError
├── EmbeddedNotInstalled   the extra is missing
├── DataFolderTaken        another service owns the folder
├── DataFolderUnusable     the folder cannot be made, written or reached
├── ServerAccountMissing   root needs an unprivileged account for the servers and cannot make one
├── ServerDidNotStart      ended or did not answer in time; the message ends with the tail of its log
└── ServerDidNotStop       a server that an earlier service left behind cannot be ended
"""


class EmbeddedError(Exception):
    """The embedded servers cannot be had."""


class EmbeddedNotInstalled(EmbeddedError):
    """The extra `embedded` is not installed."""


class DataFolderTaken(EmbeddedError):
    """Another service uses the data folder."""


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be made, written, or reached by the account that the servers run under."""


class ServerAccountMissing(EmbeddedError):
    """PostgreSQL refuses to run as root, and there is no other account for it."""


class ServerDidNotStart(EmbeddedError):
    """A server ended or did not answer in time."""


class ServerDidNotStop(EmbeddedError):
    """A server of an earlier service is still running and cannot be ended from here."""
