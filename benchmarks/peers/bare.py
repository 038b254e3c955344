"""A handler that has the bytes already: the limit of aiohttp on this machine."""

from typing_extensions import override

from benchmarks.peers.serving import Peer, serve


class Bare(Peer):
    """Reads each session once and then never again."""

    def __init__(self, *, database_url: str, redis_url: str) -> None:
        """Know nothing."""
        super().__init__(database_url=database_url, redis_url=redis_url)
        self._bodies: dict[str, bytes] = {}

    @override
    async def read(self, session_id: str) -> bytes | None:
        body = self._bodies.get(session_id)
        if body is None:
            body = await self.load(session_id)
            if body is not None:
                self._bodies[session_id] = body
        return body

    @override
    async def changed(self, session_id: str) -> None:
        self._bodies.pop(session_id, None)


if __name__ == "__main__":
    serve(Bare)
