"""The source of truth: sessions and shared settings in PostgreSQL 13 or newer. The only door to asyncpg.

`Database` lends connections and holds every call to its deadline; `PostgresSessionRepository` and
`PostgresControlStore` are the ports on it; `migrate` brings the schema; `DatabaseClock` tells its time.
Statements are in `sql/`, the schema in `migrations/`. No error of asyncpg leaves this package: their
texts quote values.
"""
