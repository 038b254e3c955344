"""The connection to the database that comes back after each loss: nothing but the end of its work ends a caller."""

import asyncio

import pytest

from tests.coherence.sql_client import SqlClient
from tests.servers.postgres_server import PostgresServer


async def test_holder_of_a_transaction_whose_server_was_restarted_can_be_cancelled(
    own_postgres: PostgresServer,
) -> None:
    """What a dead connection says to the end of the transaction does not take the place of the cancellation."""
    client = SqlClient(own_postgres.url)
    holding = asyncio.create_task(client.hold_transaction(30.0))
    held = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    while await asyncio.to_thread(own_postgres.execute, held) != "1":  # noqa: ASYNC110  (nobody is there to tell)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(own_postgres.kill)
    await asyncio.to_thread(own_postgres.start)

    holding.cancel()

    with pytest.raises(asyncio.CancelledError):
        await holding
    client.close()
