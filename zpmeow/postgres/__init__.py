"""The source of truth: pool, migrations, repository, control settings. The only door to asyncpg."""
