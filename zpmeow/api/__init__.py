"""Speaks HTTP: parse → service → present. The only door to aiohttp; knows no SQL, no Redis, no Prometheus."""
