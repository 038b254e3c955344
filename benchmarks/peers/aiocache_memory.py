"""aiocache in the memory of the process."""

from aiocache import Cache, cached
from typing_extensions import override

from benchmarks.peers.aiocache_redis import AiocacheRedis, key_of
from benchmarks.peers.serving import TTL_SECONDS, serve


class AiocacheMemory(AiocacheRedis):
    """The same without Redis."""

    @override
    def decorator(self) -> cached:
        return cached(ttl=TTL_SECONDS, cache=Cache.MEMORY, key_builder=key_of)


if __name__ == "__main__":
    serve(AiocacheMemory)
