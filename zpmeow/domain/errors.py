"""What the domain refuses, one class a reason. HTTP codes are the API's affair.

DomainError
├── SessionNotFound
├── QrCodeNotFound
├── PairingCodeNotFound
├── CredentialNotFound
├── CommandNotFound
├── SessionNameTaken
├── ApiKeyTaken
├── DeviceAlreadyInUse
├── AlreadyConnected
├── InvalidTransition
├── SessionNotHeld
├── Unauthorized
├── Forbidden
└── Unavailable
    ├── DatabaseUnavailable
    ├── Overloaded
    └── Stopping
"""

from zpmeow.domain.records import SessionStatus


class DomainError(Exception):
    """A request that cannot be granted. The message is shown to callers, so it holds no secret."""


class SessionNotFound(DomainError):
    """No session has that id, name or key."""


class QrCodeNotFound(DomainError):
    """The session has no QR code, or it has expired."""


class PairingCodeNotFound(DomainError):
    """The session has no code to enter on a telephone, or it has expired."""


class CredentialNotFound(DomainError):
    """The session is not paired with a device."""


class CommandNotFound(DomainError):
    """No command has that id, or it ended long ago."""


class SessionNameTaken(DomainError):
    """Another session has that name."""


class ApiKeyTaken(DomainError):
    """Another session has that API key."""


class DeviceAlreadyInUse(DomainError):
    """Another session is paired with that device."""


class AlreadyConnected(DomainError):
    """The session is connected: there is nothing to connect."""


class InvalidTransition(DomainError):
    """The state machine has no such step."""

    def __init__(self, current: SessionStatus, wanted: SessionStatus) -> None:
        """Name the step that was refused."""
        super().__init__(f"a session that is {current} cannot become {wanted}")
        self.current = current
        self.wanted = wanted


class SessionNotHeld(DomainError):
    """The engine that reports is not the one that has the session: another took over, or none is to have it."""


class Unauthorized(DomainError):
    """No key, or one that opens nothing."""


class Forbidden(DomainError):
    """A valid key that does not open this."""


class Unavailable(DomainError):
    """The service cannot answer now; the caller may try again after `retry_after_seconds`."""

    retry_after_seconds: int = 1


class DatabaseUnavailable(Unavailable):
    """The database refused, broke off or did not answer within its deadline."""


class Overloaded(Unavailable):
    """No database connection came free within the deadline: nothing was sent to the database."""


class Stopping(Unavailable):
    """The service is stopping: whoever waits for something asks again, and finds another process."""
