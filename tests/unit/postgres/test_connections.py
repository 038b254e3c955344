"""Places in line and connections: first come, first served, and nothing is lost whoever goes away."""

import asyncio
from typing import cast

import pytest

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres.connections import MAX_IDLE_SECONDS, Connection, ConnectionPool


class FakeConnection:
    """As much of a connection as a pool sees of it."""

    def __init__(self) -> None:
        """Begin open."""
        self.closed = False
        self.in_transaction = False
        self.said_goodbye = False

    def is_closed(self) -> bool:
        """Tell whether the connection is closed."""
        return self.closed

    def is_in_transaction(self) -> bool:
        """Tell whether a transaction was left open."""
        return self.in_transaction

    def terminate(self) -> None:
        """Cut it off."""
        self.closed = True

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109  (asyncpg's signature)
        """Close it politely."""
        self.said_goodbye = self.closed = True


class Server:
    """Makes connections, at once or when told to."""

    def __init__(self) -> None:
        """Begin with no connection made."""
        self.made: list[FakeConnection] = []
        self.open = asyncio.Event()
        self.open.set()
        self.trouble: Exception | None = None
        self.now = 0.0

    async def connect(self) -> "Connection":
        """Make a connection."""
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        self.made.append(FakeConnection())
        return cast("Connection", self.made[-1])

    def pool(self, size: int) -> ConnectionPool:
        """Make the pool under test."""
        return ConnectionPool(size=size, connect=self.connect, monotonic=lambda: self.now)


async def lend(pool: ConnectionPool) -> "Connection":
    """Go all the way to a connection."""
    await pool.take_place()
    return await pool.borrow()


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_connections_are_used_again_when_they_were_given_back() -> None:
    """The one given back last is lent first, so that few connections do the work of few callers."""
    server = Server()
    pool = server.pool(3)
    first, second = await lend(pool), await lend(pool)
    pool.give_back(first, fit=True)
    pool.give_back(second, fit=True)

    third = await lend(pool)

    assert third is second
    assert len(server.made) == 2
    assert (pool.statistics().size, pool.statistics().idle, pool.statistics().in_use) == (2, 1, 1)


async def test_callers_are_served_in_their_order_when_all_connections_are_lent() -> None:
    """First come, first served; those who wait are counted."""
    pool = Server().pool(1)
    served: list[int] = []
    held = await lend(pool)

    async def caller(number: int) -> None:
        connection = await lend(pool)
        served.append(number)
        pool.give_back(connection, fit=True)

    tasks = [asyncio.create_task(caller(number)) for number in range(5)]
    await settle()
    assert pool.statistics().waiting == 5
    pool.give_back(held, fit=True)
    await asyncio.gather(*tasks)

    assert served == [0, 1, 2, 3, 4]
    assert pool.statistics().waiting == 0


async def test_no_place_is_lost_when_those_who_wait_are_cancelled() -> None:
    """A waiter that goes away just when it is served leaves the place to the next."""
    pool = Server().pool(1)
    held = await lend(pool)
    waiters = [asyncio.create_task(pool.take_place()) for _ in range(3)]
    await settle()

    waiters[1].cancel()
    pool.give_back(held, fit=True)
    waiters[0].cancel()  # Served already, and not yet told.
    await asyncio.gather(*waiters, return_exceptions=True)

    assert [waiter.cancelled() for waiter in waiters] == [True, True, False]
    assert (pool.statistics().in_use, pool.statistics().waiting) == (1, 0)


async def test_the_place_is_free_when_connecting_fails() -> None:
    """A refused connection costs nothing but the attempt."""
    server = Server()
    pool = server.pool(1)
    server.trouble = ConnectionRefusedError()

    await pool.take_place()
    with pytest.raises(ConnectionRefusedError):
        await pool.borrow()
    pool.give_back(None, fit=False)

    server.trouble = None
    await lend(pool)
    assert pool.statistics().in_use == 1


@pytest.mark.parametrize("fault", ["unfit", "closed", "in_transaction"])
async def test_a_connection_is_cut_off_when_it_is_not_fit_for_others(fault: str) -> None:
    """Nobody gets a connection in an unknown state, or one with another's transaction."""
    server = Server()
    pool = server.pool(1)
    connection = await lend(pool)
    server.made[0].closed = fault == "closed"
    server.made[0].in_transaction = fault == "in_transaction"

    pool.give_back(connection, fit=fault != "unfit")

    assert server.made[0].closed
    assert pool.statistics().size == 0
    assert await lend(pool) is not connection


async def test_a_new_connection_is_made_when_the_idle_ones_have_died() -> None:
    """What the server closed in the meantime is passed over."""
    server = Server()
    pool = server.pool(2)
    lent = [await lend(pool), await lend(pool)]
    for connection in lent:
        pool.give_back(connection, fit=True)
    for made in server.made:
        made.closed = True

    connection = await lend(pool)

    assert connection not in lent
    assert pool.statistics().size == 1


async def test_a_connection_is_dropped_when_it_was_idle_for_long() -> None:
    """What the load does not need any more goes; what it uses stays."""
    server = Server()
    pool = server.pool(2)
    lent = [await lend(pool), await lend(pool)]
    for connection in lent:
        pool.give_back(connection, fit=True)

    server.now = MAX_IDLE_SECONDS + 1.0
    pool.give_back(await lend(pool), fit=True)

    assert [made.closed for made in server.made] == [True, False]
    assert pool.statistics().size == 1


async def test_lent_connections_stay_when_idle_ones_are_dropped() -> None:
    """Whoever is at work finds out for himself; what nobody uses is made anew."""
    server = Server()
    pool = server.pool(2)
    idle, lent = await lend(pool), await lend(pool)
    pool.give_back(idle, fit=True)

    pool.drop_idle()

    assert [made.closed for made in server.made] == [True, False]
    assert pool.statistics().size == 1
    pool.give_back(lent, fit=True)
    assert await lend(pool) is lent


async def test_nothing_stays_open_when_the_pool_is_closed() -> None:
    """Idle connections are told goodbye, lent ones cut off, and one that is just being made is closed at once."""
    server = Server()
    pool = server.pool(3)
    idle, lent = await lend(pool), await lend(pool)
    pool.give_back(idle, fit=True)
    await pool.take_place()
    idle = await pool.borrow()
    server.open.clear()
    await pool.take_place()
    pending = asyncio.create_task(pool.borrow())
    await settle()
    pool.give_back(idle, fit=True)

    await pool.close()
    server.open.set()

    with pytest.raises(DatabaseUnavailable):
        await pending
    pool.give_back(lent, fit=True)
    assert all(made.closed for made in server.made)
    assert [made.said_goodbye for made in server.made] == [True, False, False]
    await pool.take_place()
    with pytest.raises(DatabaseUnavailable):
        await pool.borrow()
