"""aiocache with Redis: its decorator, and `delete` after a change."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiocache import Cache, cached
from aiocache.serializers import StringSerializer
from typing_extensions import override

from benchmarks.peers.serving import TTL_SECONDS, Peer, serve


def key_of(_function: Callable[..., Any], session_id: str) -> str:
    """Return the key of a session."""
    return f"session:{session_id}"


class AiocacheRedis(Peer):
    """Keeps answers by the decorator."""

    def decorator(self) -> cached:
        """Return the decorator."""
        address = urlsplit(self.redis_url)
        return cached(
            ttl=TTL_SECONDS,
            cache=Cache.REDIS,
            key_builder=key_of,
            serializer=StringSerializer(),
            endpoint=address.hostname,
            port=address.port,
        )

    @override
    async def open(self) -> None:
        await super().open()

        async def load(session_id: str) -> str | None:
            body = await self.load(session_id)
            return None if body is None else body.decode()

        self._cached_load = self.decorator()(load)

    @override
    async def read(self, session_id: str) -> bytes | None:
        body: str | None = await self._cached_load(session_id)
        return None if body is None else body.encode()

    @override
    async def changed(self, session_id: str) -> None:
        await self._cached_load.cache.delete(f"session:{session_id}")


if __name__ == "__main__":
    serve(AiocacheRedis)
