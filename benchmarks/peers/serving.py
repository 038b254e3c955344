"""What all peers share: one session's row in the database, the answer that is made of it, and a server.

Every peer answers `GET /sessions/{id}/info` with the body that zpmeow answers with, and takes `PUT
/sessions/{id}/webhook`, which changes the row and then does what its library's pages say about changed values. None of
them asks for a key, counts anything, or compares ETags.
"""

import argparse
import asyncio
from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import asyncpg
import orjson
import uvloop
from aiohttp import web

TTL_SECONDS = 60
_READ = """
    SELECT s.id::text AS id, s.name, t.status, t.desired_status, c.device_jid, s.proxy_url, s.webhook_url,
           s.webhook_events, s.created_at, s.updated_at
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE s.id = $1
"""
_WRITE = "UPDATE sessions SET webhook_url = $2, webhook_events = $3 WHERE id = $1"

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class Peer(ABC):
    """One way to answer. `database_url` and `redis_url` are addresses of the stores."""

    def __init__(self, *, database_url: str, redis_url: str) -> None:
        """Connect upon `open`."""
        self.database_url = database_url
        self.redis_url = redis_url
        self._pool: Pool | None = None

    async def open(self) -> None:
        """Connect to the database, with asyncpg's own pool and its defaults."""
        self._pool = await asyncpg.create_pool(self.database_url)

    @abstractmethod
    async def read(self, session_id: str) -> bytes | None:
        """Return the answer's body; None: there is no such session."""

    @abstractmethod
    async def changed(self, session_id: str) -> None:
        """Do what is to be done after a session was changed."""

    async def load(self, session_id: str) -> bytes | None:
        """Read the session from the database."""
        assert self._pool is not None
        row = await self._pool.fetchrow(_READ, session_id)
        return None if row is None else body_of(dict(row))

    async def write(self, session_id: str, url: str, events: list[str]) -> None:
        """Change the session in the database."""
        assert self._pool is not None
        await self._pool.execute(_WRITE, session_id, url, events)


def body_of(row: dict[str, Any]) -> bytes:
    """Return the answer that shows a row: the very bytes that zpmeow answers with, which `throughput` checks."""
    url, events = row.pop("webhook_url"), row.pop("webhook_events")
    times = {name: row.pop(name) for name in ("created_at", "updated_at")}
    session = {**row, "webhook": None if url is None else {"url": url, "events": events}, **times}
    data = {"session_id": row["id"], "session": session}
    return orjson.dumps({"success": True, "code": 200, "data": data}, option=orjson.OPT_UTC_Z)


def make_app(peer: Peer) -> web.Application:
    """Make an application of it."""

    async def read(request: web.Request) -> web.Response:
        body = await peer.read(request.match_info["id"])
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/json")

    async def write(request: web.Request) -> web.Response:
        session_id, wanted = request.match_info["id"], await request.json()
        await peer.write(session_id, wanted["url"], wanted["events"])
        await peer.changed(session_id)
        return web.json_response({"success": True})

    async def start(_app: web.Application) -> None:
        await peer.open()

    app = web.Application()
    app.router.add_get("/sessions/{id}/info", read)
    app.router.add_put("/sessions/{id}/webhook", write)
    app.on_startup.append(start)
    return app


def serve(kind: type[Peer]) -> None:
    """Serve it until SIGTERM, as the command line says, under uvloop and without an access log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--redis-url", required=True)
    arguments = parser.parse_args()
    peer = kind(database_url=arguments.database_url, redis_url=arguments.redis_url)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(make_app(peer), host="127.0.0.1", port=arguments.port, access_log=None, print=None, loop=loop)
