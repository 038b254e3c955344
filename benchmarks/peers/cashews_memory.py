"""cashews in the memory of the process."""

from typing_extensions import override

from benchmarks.peers.cashews_redis import CashewsRedis
from benchmarks.peers.serving import serve


class CashewsMemory(CashewsRedis):
    """The same without Redis."""

    @override
    def address(self) -> str:
        return "mem://"


if __name__ == "__main__":
    serve(CashewsMemory)
