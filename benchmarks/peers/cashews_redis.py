"""cashews with Redis: its decorator, and `delete` after a change."""

from cashews import Cache
from typing_extensions import override

from benchmarks.peers.serving import TTL_SECONDS, Peer, serve


class CashewsRedis(Peer):
    """Keeps answers by the decorator."""

    def address(self) -> str:
        """Return what the cache is set up with."""
        return self.redis_url

    @override
    async def open(self) -> None:
        await super().open()
        self._cache = Cache()
        self._cache.setup(self.address())
        self._cached_load = self._cache(ttl=TTL_SECONDS, key="session:{session_id}")(self.load)

    @override
    async def read(self, session_id: str) -> bytes | None:
        body: bytes | None = await self._cached_load(session_id)
        return body

    @override
    async def changed(self, session_id: str) -> None:
        await self._cache.delete(f"session:{session_id}")


if __name__ == "__main__":
    serve(CashewsRedis)
