"""Clients send what is no request, or one that is far too large."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 10
_SECONDS = 12.0
_PATIENCE_SECONDS = 2.0
_END, _WAITS = "an end", "no answer"
_CREATE = (
    f"POST /sessions/create HTTP/1.1\r\nHost: bad.test\r\nX-API-Key: {OPERATOR_KEY}\r\n"
    "Content-Type: application/json\r\n"
)


@dataclass(slots=True, frozen=True)
class _Kind:
    """One kind of request, and the only status that it may be answered with.

    `may_end`: the service closes before it has taken all, upon which the client's system may drop the answer.
    """

    name: str
    status: int
    data: bytes
    may_end: bool = False

    @property
    def outcomes(self) -> set[str]:
        """What may come of it."""
        return {str(self.status), _END} if self.may_end else {str(self.status)}


def _head(lines: str) -> bytes:
    return f"{_CREATE}{lines}\r\n\r\n".encode()


def _with_body(body: bytes) -> bytes:
    return _head(f"Content-Length: {len(body)}") + body


_KINDS = (
    _Kind("TLS", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    _Kind("unknown version", 400, b"GET / HTTP/9.9\r\n\r\n"),
    _Kind("no HTTP", 400, b"NONSENSE\r\n\r\n"),
    _Kind(
        "large header",
        400,
        b"GET / HTTP/1.1\r\nHost: bad.test\r\nX-Large: " + b"x" * 100_000 + b"\r\n\r\n",
        may_end=True,
    ),
    _Kind("large path", 400, b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: bad.test\r\n\r\n", may_end=True),
    _Kind(
        "path of no text",
        404,
        f"GET /sessions/%00%ff%2e%2e/info HTTP/1.1\r\nHost: bad.test\r\nX-API-Key: {OPERATOR_KEY}\r\n\r\n".encode(),
    ),
    _Kind("negative length", 400, _head("Content-Length: -5")),
    _Kind("two lengths", 400, _head("Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
    _Kind("chunk of no length", 400, _head("Transfer-Encoding: chunked") + b"ZZZ\r\n"),
    _Kind("far too large, only announced", 413, _head("Content-Length: 99999999999")),
    _Kind("too large", 413, _with_body(b'{"name": "' + b"n" * 2_000_000 + b'"}')),
    _Kind("no JSON", 400, _with_body(b"{" * 50_000)),
    _Kind("no UTF-8", 400, _with_body(b'{"name": "\xff\xfe"}')),
    _Kind("infinity", 400, _with_body(b'{"name": 1e999}')),
    _Kind("far too deep", 400, _with_body(b"[" * 100_000 + b"]" * 100_000)),
    _Kind("wrong values", 422, _with_body(b'{"name": "a", "name": "b", "proxy_url": {"x": []}}')),
)
_LEAST_OF_A_KIND = 20


async def _inject(world: World) -> None:
    kinds = itertools.cycle(_KINDS)
    answered: dict[str, Counter[str]] = {kind.name: Counter() for kind in _KINDS}

    async def send(port: int) -> None:
        kind = next(kinds)
        async with connected(port) as (reader, writer):
            writer.write(kind.data)
            answered[kind.name][await _outcome(reader)] += 1

    await crowd(world, _CLIENTS, _SECONDS, send)
    for kind in _KINDS:
        outcomes = answered[kind.name]
        demand(outcomes[str(kind.status)], _LEAST_OF_A_KIND, f"of the kind '{kind.name}' got {kind.status}")
        if outcomes.keys() - kind.outcomes:
            message = f"of the kind '{kind.name}' some got {dict(outcomes)}"
            raise ServerFailedError(message)


async def _outcome(reader: asyncio.StreamReader) -> str:
    """Return the status of the answer, or what came in its place."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            line = await reader.readline()
    except TimeoutError:
        return _WAITS
    except ConnectionError:
        return _END
    # What is no HTTP/1.1 may be answered by an older one.
    return line.split(b" ")[1].decode() if line.startswith((b"HTTP/1.0 ", b"HTTP/1.1 ")) else _END


SCENARIO = Scenario(
    hypothesis="Each gets the refusal that its kind has, a head too long to be read that or an end; nothing of it is"
    " read further than needed.",
    fault=f"{_CLIENTS} clients send {len(_KINDS)} kinds of broken and oversize requests, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections, or a request is answered with another status, or not at all",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
