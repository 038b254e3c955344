"""PostgreSQL and Redis servers from wheels, for a machine that has none: started, reused, stopped with the service.

`open_embedded` locks the data folder, ends what a killed service left running, starts the servers and waits until they
answer; `close` stops them in order. One service owns a data folder at a time. Linux only, standard library only, and
synchronous: call it before the event loop starts, or in a thread. Postgres is durable; Redis keeps what it holds over
an orderly stop and starts empty after any other end, so it never returns with entries older than the database.

A service ended by `kill -9` leaves its servers running until the next start on the same folder, which stops them. The
kernel could end them with their parent (PR_SET_PDEATHSIG), but it counts the starting *thread* as the parent and needs
code between fork and exec, so a start in a worker thread would take the servers down with the thread.
"""

from zpmeow.embedded.errors import (
    DataFolderTaken,
    DataFolderUnusable,
    EmbeddedError,
    EmbeddedNotInstalled,
    ServerAccountMissing,
    ServerDidNotStart,
    ServerDidNotStop,
)
from zpmeow.embedded.programs import is_available
from zpmeow.embedded.servers import EmbeddedServers, open_embedded

__all__ = [
    "DataFolderTaken",
    "DataFolderUnusable",
    "EmbeddedError",
    "EmbeddedNotInstalled",
    "EmbeddedServers",
    "ServerAccountMissing",
    "ServerDidNotStart",
    "ServerDidNotStop",
    "is_available",
    "open_embedded",
]
