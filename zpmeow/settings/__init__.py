"""Settings: the environment (and `.env`) goes in, one frozen `Settings` comes out, or one clear line.

`values` reads single values, `groups` says which there are, `load` reads them all. Only `bootstrap`
looks inside; everyone else is given the plain values that they need.
"""

from zpmeow.settings.groups import (
    DEFAULT_DATABASE_URL,
    DEFAULT_REDIS_URL,
    BreakerSettings,
    CacheSettings,
    DatabaseSettings,
    EmbeddedSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    ServerSettings,
)
from zpmeow.settings.load import ENV_FILE, Settings, SettingsError, load_settings
from zpmeow.settings.values import is_loopback, without_credentials

__all__ = [
    "DEFAULT_DATABASE_URL",
    "DEFAULT_REDIS_URL",
    "ENV_FILE",
    "BreakerSettings",
    "CacheSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "is_loopback",
    "load_settings",
    "without_credentials",
]
