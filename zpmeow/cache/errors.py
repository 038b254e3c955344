"""Why a tier did not do what it was asked. None of these leaves `cache/`.

CacheError
├── CacheTimeout       began, and did not end within the deadline (it may still happen there, later)
├── CacheUnavailable   refused, broken off, or answered with an error that means "not now"
├── CacheBusy          never began, or had no fair chance: no connection came free in time, or the
│                      deadline was (nearly) used up before (if it began, it may happen there, later)
└── CacheBypassed      never began: the breaker is open, or the mode forbids it
    └── CacheDisabled  never will begin: there is no cache

The breaker counts the first two as failures, and never the last two.
"""


class CacheError(Exception):
    """A tier did not do what it was asked."""


class CacheTimeout(CacheError):
    """The tier did not answer within the deadline. The command may still run there later."""


class CacheUnavailable(CacheError):
    """The tier refused, broke off, or answered that it cannot serve now."""


class CacheBusy(CacheError):
    """This process could not make the call in time; says nothing about the tier's health."""


class CacheBypassed(CacheError):
    """The call was not made on purpose. The message is one of: circuit_open, mode, untrusted, disabled."""


class CacheDisabled(CacheBypassed):
    """There is no cache: nothing has to be kept for it."""
