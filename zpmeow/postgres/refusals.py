"""What a broken constraint means to a caller: the unique things of a session, and who has them already."""

from collections.abc import Iterator
from contextlib import contextmanager

from zpmeow.domain.errors import ApiKeyTaken, DeviceAlreadyInUse, SessionNameTaken
from zpmeow.postgres.failures import ConstraintViolated


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a broken constraint into the refusal that it means."""
    try:
        yield
    except ConstraintViolated as violated:
        raise _refusal(violated) from None


def _refusal(violated: ConstraintViolated) -> Exception:
    match violated.constraint:
        case "sessions_name_unique":
            return name_taken()
        case "sessions_key_hash_unique":
            return key_taken()
        case "session_credential_device_unique":
            return device_in_use()
        case _:
            return violated


def name_taken() -> SessionNameTaken:
    """Return the refusal of a name that another session has."""
    return SessionNameTaken("another session has that name")


def key_taken() -> ApiKeyTaken:
    """Return the refusal of a key that another session has."""
    return ApiKeyTaken("another session has that API key")


def device_in_use() -> DeviceAlreadyInUse:
    """Return the refusal of a device that another session is paired with."""
    return DeviceAlreadyInUse("another session is paired with that device")
