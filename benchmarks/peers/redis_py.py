"""redis-py, cache-aside: GET, else the database and SET; DEL after a change."""

import redis.asyncio
from typing_extensions import override

from benchmarks.peers.serving import TTL_SECONDS, Peer, serve


class RedisPy(Peer):
    """Keeps answers in Redis, with the client's defaults."""

    @override
    async def open(self) -> None:
        await super().open()
        self._redis = redis.asyncio.from_url(self.redis_url)

    @override
    async def read(self, session_id: str) -> bytes | None:
        key = f"session:{session_id}"
        found = await self._redis.get(key)
        if isinstance(found, bytes):
            return found
        body = await self.load(session_id)
        if body is not None:
            await self._redis.set(key, body, ex=TTL_SECONDS)
        return body

    @override
    async def changed(self, session_id: str) -> None:
        await self._redis.delete(f"session:{session_id}")


if __name__ == "__main__":
    serve(RedisPy)
