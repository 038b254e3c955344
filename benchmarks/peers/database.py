"""asyncpg alone: each answer is a query."""

from typing_extensions import override

from benchmarks.peers.serving import Peer, serve


class Database(Peer):
    """Has no cache."""

    @override
    async def read(self, session_id: str) -> bytes | None:
        return await self.load(session_id)

    @override
    async def changed(self, session_id: str) -> None:
        pass


if __name__ == "__main__":
    serve(Database)
