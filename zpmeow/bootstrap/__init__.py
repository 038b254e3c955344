"""The composition root: opens, wires and closes everything; the only reader of `Settings`.

`runtime` is what commands call, `stores` finds or starts PostgreSQL and Redis, `application` wires the
service, `cache_wiring` its cache; `supervision` keeps endless tasks alive.
"""

from zpmeow.bootstrap.runtime import migrate, serve
from zpmeow.bootstrap.stores import Stores, open_stores

__all__ = ["Stores", "migrate", "open_stores", "serve"]
