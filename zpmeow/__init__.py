"""zpmeow holds the sessions of WhatsApp gateways: PostgreSQL is the truth, Redis is the cache.

The layers, top to bottom: `cli` > `bootstrap` > `settings | embedded` > `api | telemetry` >
`services | repositories | postgres` > `cache | domain` > `events`. Imports only point down.
"""

__version__ = "0.1.0"
