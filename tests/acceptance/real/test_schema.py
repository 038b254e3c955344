"""The schema and the processes that bring it about."""

import asyncio

from tests.acceptance.real.conftest import MakeService
from tests.servers.postgres_server import PostgresServer
from tests.servers.redis_server import RedisServer


async def test_migrate_is_safe_at_any_time_and_in_any_number(database_url: str, new_service: MakeService) -> None:
    """Five at once, then two more: one applies the schema, and all end well."""
    services = [new_service(DATABASE_URL=database_url, CACHE_ENABLED="false") for _ in range(6)]

    codes = await asyncio.gather(*(asyncio.to_thread(service.run, "migrate") for service in services[:5]))
    again = [await asyncio.to_thread(services[5].run, "migrate") for _ in range(2)]

    assert (codes, again) == ([0] * 5, [0] * 2)
    outputs = sorted(service.output for service in services[:5])
    assert sum(output.startswith("applied 0001_") for output in outputs) == 1
    assert sum(output == "the schema is up to date\n" for output in outputs) == 4
    assert services[5].output == "the schema is up to date\n" * 2
    assert "".join(service.errors for service in services) == ""


async def test_start_is_refused_when_the_database_is_newer_than_the_code(
    postgres_server: PostgresServer, redis_server: RedisServer, database_url: str, new_service: MakeService
) -> None:
    """One line says what is wrong and what to do, for both commands, and nothing was touched."""
    service = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url)
    assert await asyncio.to_thread(service.run, "migrate") == 0
    postgres_server.execute(
        "INSERT INTO schema_migrations (version, name, checksum, works_with, applied_by)"
        " VALUES (9999, 'of_the_future', 'x', 9999, 'tomorrow')",
        database=database_url.rpartition("/")[2],
    )

    code = await asyncio.to_thread(service.run, "serve")
    first_errors = service.errors
    second_code = await asyncio.to_thread(service.run, "migrate")

    assert (code, second_code) == (1, 1)
    assert len(first_errors.splitlines()) == 1
    assert "9999_of_the_future" in first_errors
    assert "newer" in first_errors
    assert "Traceback" not in service.output + service.errors
