"""Clients send what is no request, or one that is far too large."""

import asyncio
from collections import Counter
from random import Random

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 10
_SECONDS = 12.0
_PATIENCE_SECONDS = 2.0
_CREATE = (
    f"POST /sessions/create HTTP/1.1\r\nHost: bad.test\r\nX-API-Key: {OPERATOR_KEY}\r\n"
    "Content-Type: application/json\r\n"
)


def _with_body(body: bytes) -> bytes:
    return f"{_CREATE}Content-Length: {len(body)}\r\n\r\n".encode() + body


_REQUESTS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET / HTTP/9.9\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    b"GET /sessions/list HTTP/1.1\r\nHost: bad.test\r\nX-Large: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: bad.test\r\n\r\n",
    b"GET /sessions/%00%ff%2e%2e/info HTTP/1.1\r\nHost: bad.test\r\n\r\n",
    f"{_CREATE}Content-Length: -5\r\n\r\n".encode(),
    f"{_CREATE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    f"{_CREATE}Transfer-Encoding: chunked\r\n\r\nZZZ\r\n".encode(),
    f"{_CREATE}Content-Length: 99999999999\r\n\r\n".encode(),
    _with_body(b"{" * 50_000),
    _with_body(b'{"name": "' + b"n" * 2_000_000 + b'"}'),
    _with_body(b'{"name": "\xff\xfe"}'),
    _with_body(b'{"name": 1e999}'),
    _with_body(b"[" * 100_000 + b"]" * 100_000),
    _with_body(b'{"name": "a", "name": "b", "proxy_url": {"x": []}}'),
)


async def _inject(world: World) -> None:
    chance = Random(1)
    answered: Counter[bytes] = Counter()

    async def send(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(chance.choice(_REQUESTS))
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    answered[(await reader.readline())[:12]] += 1
            except TimeoutError:
                answered[b"waits"] += 1

    await crowd(world, _CLIENTS, _SECONDS, send)
    # What is no HTTP/1.1 may be answered by an older one.
    refused = [line for line in answered if line.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4"))]
    if not refused or answered.keys() - {*refused, b"", b"waits"}:
        message = f"answered: {dict(answered)}"
        raise ServerFailedError(message)


SCENARIO = Scenario(
    hypothesis="Each gets its 4xx or an end of the connection; nothing of it is read further than needed.",
    fault=f"{_CLIENTS} clients send {len(_REQUESTS)} kinds of broken and oversize requests, for {_SECONDS:g} s",
    aborts_when="the service accepts no connections",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
