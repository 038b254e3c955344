"""Every error that a caller can meet, and the one table of how each is told: HTTP status, code, message.

What the domain refuses comes from `domain.errors`; what HTTP itself refuses is defined here.

RequestRefused
├── RouteNotFound
├── MethodNotAllowed
├── MalformedRequest
├── InvalidJson
├── InvalidInput
├── BodyTooLarge
├── UnsupportedMediaType
└── BodyTooSlow
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zpmeow.domain.errors import (
    AlreadyConnected,
    ApiKeyTaken,
    CommandNotFound,
    CredentialNotFound,
    DatabaseUnavailable,
    DeviceAlreadyInUse,
    DomainError,
    Forbidden,
    InvalidTransition,
    Overloaded,
    PairingCodeNotFound,
    QrCodeNotFound,
    SessionNameTaken,
    SessionNotFound,
    SessionNotHeld,
    Stopping,
    Unauthorized,
    Unavailable,
)


class RequestRefused(Exception):
    """A request that HTTP or its schema refuses. The message is shown, so it never repeats a value sent."""


class RouteNotFound(RequestRefused):
    """Nothing lives at the path."""


class MethodNotAllowed(RequestRefused):
    """The path knows other methods only."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Name the methods that the path knows."""
        super().__init__(f"allowed here: {', '.join(allowed)}")
        self.allowed = allowed


class MalformedRequest(RequestRefused):
    """The request breaks the rules of HTTP."""


class InvalidJson(RequestRefused):
    """The body is not JSON."""


class InvalidInput(RequestRefused):
    """The body or the query breaks its schema; the message names each field."""


class BodyTooLarge(RequestRefused):
    """The body has more bytes than are taken."""


class UnsupportedMediaType(RequestRefused):
    """The body is declared as something else than plain JSON."""


class BodyTooSlow(RequestRefused):
    """The body did not arrive in time."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """How an error is told: the status, the code for programs, the message for people."""

    status: int
    code: str
    message: str


INTERNAL_ERROR = Refusal(500, "INTERNAL_ERROR", "The service failed to answer; the request id leads to the reason")

REFUSALS: Mapping[type[Exception], Refusal] = {
    MalformedRequest: Refusal(400, "BAD_REQUEST", "The request breaks the rules of HTTP"),
    InvalidJson: Refusal(400, "INVALID_JSON", "The body is not valid JSON"),
    Unauthorized: Refusal(401, "UNAUTHORIZED", "A valid API key is needed"),
    Forbidden: Refusal(403, "FORBIDDEN", "The caller may not do this"),
    RouteNotFound: Refusal(404, "NOT_FOUND", "Nothing lives at this path"),
    SessionNotFound: Refusal(404, "SESSION_NOT_FOUND", "Session not found"),
    PairingCodeNotFound: Refusal(404, "PAIRING_CODE_NOT_FOUND", "Pairing code not found"),
    QrCodeNotFound: Refusal(404, "QR_CODE_NOT_FOUND", "QR code not found"),
    CommandNotFound: Refusal(404, "COMMAND_NOT_FOUND", "Command not found"),
    CredentialNotFound: Refusal(404, "CREDENTIAL_NOT_FOUND", "Credentials not found"),
    MethodNotAllowed: Refusal(405, "METHOD_NOT_ALLOWED", "The path does not know this method"),
    BodyTooSlow: Refusal(408, "REQUEST_TIMEOUT", "The body did not arrive in time"),
    SessionNameTaken: Refusal(409, "SESSION_NAME_TAKEN", "Session name already taken"),
    ApiKeyTaken: Refusal(409, "API_KEY_TAKEN", "API key already taken"),
    DeviceAlreadyInUse: Refusal(409, "DEVICE_ALREADY_IN_USE", "Device already in use"),
    AlreadyConnected: Refusal(409, "ALREADY_CONNECTED", "Session already connected"),
    InvalidTransition: Refusal(409, "INVALID_TRANSITION", "The status cannot change like that"),
    SessionNotHeld: Refusal(409, "SESSION_NOT_HELD", "The engine does not have this session"),
    BodyTooLarge: Refusal(413, "PAYLOAD_TOO_LARGE", "The body is too large"),
    UnsupportedMediaType: Refusal(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be JSON"),
    InvalidInput: Refusal(422, "VALIDATION_ERROR", "The input breaks the rules"),
    DatabaseUnavailable: Refusal(503, "DATABASE_UNAVAILABLE", "The database cannot answer now"),
    Overloaded: Refusal(503, "OVERLOADED", "The service has too much to do now"),
    Stopping: Refusal(503, "STOPPING", "The service is stopping; ask again"),
}

EXPECTED_ERRORS = (DomainError, RequestRefused)


def refusal_for(error: Exception) -> Refusal:
    """Return how the error is told; an error without a line of its own is told as its nearest ancestor."""
    for kind in type(error).__mro__:
        refusal = REFUSALS.get(kind)
        if refusal is not None:
            return refusal
    return REFUSALS[DatabaseUnavailable] if isinstance(error, Unavailable) else INTERNAL_ERROR
