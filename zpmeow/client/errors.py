"""What can go wrong for a caller.

ClientError
├── Refused      the service has answered, and says no
└── ServiceAway  it has not answered, or could not do it now, for longer than the client's patience
"""


class ClientError(Exception):
    """The service did not do what was asked for."""


class Refused(ClientError):
    """The service says no, and would say so again: `code` is the contract's word, such as SESSION_NOT_FOUND."""

    def __init__(self, *, status: int, code: str, details: str) -> None:
        """Take over what the service said."""
        super().__init__(f"{status} {code}: {details}" if details else f"{status} {code}")
        self.status = status
        self.code = code
        self.details = details


class ServiceAway(ClientError):
    """The service was not reached or was not able to answer. What was asked for may have been done all the same.

    `retry_after_seconds`: when the service wants to be asked again, if it said so. `is_untouched`: nothing was done.
    """

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0, is_untouched: bool = False) -> None:
        """Say what happened."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.is_untouched = is_untouched
