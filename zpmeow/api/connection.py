"""One connection: what aiohttp lacks for strangers on the line.

- A request's head must arrive within its time, however slowly it trickles in. (aiohttp only knows a time
  for idle connections, which a head that never ends would have to itself.)
- A peer that takes nothing of what is sent to it is cut off (`TCP_USER_TIMEOUT`, where the system has it).
- Bytes that are not HTTP get a refusal like all others, and neither it nor the log repeats them: a header
  that could not be parsed may hold a key.
"""

import asyncio
import socket
from http import HTTPStatus
from secrets import token_hex

from aiohttp import web

from zpmeow.api.answers import crashed, refused
from zpmeow.api.completion import complete
from zpmeow.api.hang_up import HangUpNotice
from zpmeow.api.refusals import MalformedRequest
from zpmeow.api.unmatched import UNMATCHED_ROUTE
from zpmeow.events import Observer, RequestCrashed, RequestFinished, RequestStarted

_UNREAD_TIMEOUT_SECONDS = 30
_LINGERING_SECONDS = 2.0  # How long an unwanted body is read and dropped after its answer.


class Connection(HangUpNotice):
    """A connection with time limits on all that its peer does."""

    __slots__ = ("_head_timeout_seconds", "_head_timer", "_observer")

    def __init__(
        self, manager: web.Server, *, observer: Observer, head_timeout_seconds: float, idle_timeout_seconds: float
    ) -> None:
        """Serve one connection.

        Args:
            manager: aiohttp's server, which hands requests to the application.
            observer: learns of what never became a request.
            head_timeout_seconds: from a head's first byte to its last.
            idle_timeout_seconds: how long the connection may wait for a request.
        """
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle_timeout_seconds,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no access log".
            auto_decompress=False,
            lingering_time=_LINGERING_SECONDS,
        )
        self._waiting = None
        self._observer = observer
        self._head_timeout_seconds = head_timeout_seconds
        self._head_timer: asyncio.TimerHandle | None = None

    def close_if_idle(self) -> None:
        """Close the connection if it waits for a request of which nothing has come yet."""
        if self._awaits_head() and self._head_timer is None:
            self.force_close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and let the system cut off a peer that acknowledges nothing."""
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_TIMEOUT_SECONDS * 1000)

    def data_received(self, data: bytes) -> None:
        """Parse, and watch over a head that has begun and not ended."""
        super().data_received(data)
        if not self._awaits_head():
            self._forget_head()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_timeout_seconds, self._give_up_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._forget_head()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application, or what failed on its way out of it."""
        if request.writer.output_size > 0:
            reason = "the answer has begun; there cannot be another one"
            raise ConnectionError(reason)
        identity = token_hex(16)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            if exc is not None:
                # Its frames hold what was read, and the list that holds it: garbage of 100 KB a request until the
                # collector comes.
                exc.__traceback__ = None
            answer = refused(MalformedRequest("what came is not HTTP/1.1, or too long"))
        else:
            self._observer(
                RequestCrashed(identity, UNMATCHED_ROUTE.method, UNMATCHED_ROUTE.path, exc or RuntimeError(message))
            )
            answer = crashed()
        answer.headers = {"Connection": "close"}  # aiohttp takes what it could not parse for HTTP/1.0.
        self._observer(RequestStarted())
        self._observer(
            RequestFinished(
                request_id=identity,
                method=UNMATCHED_ROUTE.method,
                route=UNMATCHED_ROUTE.path,
                status=answer.status,
                duration_seconds=0.0,
                cache_status=None,
            )
        )
        return complete(answer, identity, closes=True)

    def _awaits_head(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        self._head_timer = None
        if self._awaits_head():
            self.force_close()
