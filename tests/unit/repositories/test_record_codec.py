"""Records survive the way into the cache and out, secrets excepted."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.domain.records import CredentialRecord, QrRecord, SessionRecord, SessionStatus, StatusRecord, Webhook
from zpmeow.repositories import record_codec as codec

_TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  (hypothesis wants bounds without a zone)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
_VERSIONS = st.integers(1, 2**63 - 1)

_SESSIONS = st.builds(
    SessionRecord,
    id=st.uuids(),
    version=_VERSIONS,
    name=_TEXTS,
    key_hash=st.binary(min_size=32, max_size=32),
    proxy_url=st.none() | _TEXTS,
    has_proxy_password=st.booleans(),
    proxy_password=st.none(),
    webhook=st.none() | st.builds(Webhook, url=_TEXTS, events=st.lists(_TEXTS, max_size=3).map(tuple)),
    created_at=_TIMES,
    updated_at=_TIMES,
)
_STATUSES = st.builds(
    StatusRecord,
    session_id=st.uuids(),
    version=_VERSIONS,
    status=st.sampled_from(SessionStatus),
    desired_status=st.sampled_from(SessionStatus),
    reason=st.none() | _TEXTS,
    changed_at=_TIMES,
    valid_until=st.none() | _TIMES,
)
_QRS = st.builds(
    QrRecord,
    session_id=st.uuids(),
    version=_VERSIONS,
    code=st.none() | _TEXTS,
    expires_at=st.none() | _TIMES,
    pairing_code=st.none() | _TEXTS,
    pairing_expires_at=st.none() | _TIMES,
)
_CREDENTIALS = st.builds(
    CredentialRecord,
    session_id=st.uuids(),
    version=_VERSIONS,
    device_jid=st.none() | _TEXTS,
    paired_at=st.none() | _TIMES,
)


@given(record=_SESSIONS)
def test_session_survives(record: SessionRecord) -> None:
    """A session is read back as it was written."""
    assert codec.decode_session(codec.encode_session(record)) == record


@given(record=_STATUSES)
def test_status_survives(record: StatusRecord) -> None:
    """A status is read back as it was written."""
    assert codec.decode_status(codec.encode_status(record)) == record


@given(record=_QRS)
def test_qr_survives(record: QrRecord) -> None:
    """The codes are read back as they were written."""
    assert codec.decode_qr(codec.encode_qr(record)) == record


@given(record=_CREDENTIALS)
def test_credential_survives(record: CredentialRecord) -> None:
    """A device is read back as it was written."""
    assert codec.decode_credential(codec.encode_credential(record)) == record


@given(record=_SESSIONS)
def test_proxy_password_never_enters_the_bytes(record: SessionRecord) -> None:
    """A session that holds its proxy's password is written without it."""
    secret = "p4ssw0rd-that-must-not-leave"

    data = codec.encode_session(replace(record, proxy_password=secret, has_proxy_password=True))

    assert secret.encode() not in data
    assert codec.decode_session(data).proxy_password is None


@pytest.mark.parametrize(
    "decode", [codec.decode_session, codec.decode_status, codec.decode_qr, codec.decode_credential]
)
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[1,2]", b"null", b"\xff", b'["x",1,"y",2,3,4,5,6,7]', b"{"])
def test_unreadable_bytes_raise_what_the_cache_expects(decode: object, data: bytes) -> None:
    """Bytes of another shape are refused with one of the errors that mean: corrupt."""
    assert callable(decode)

    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(data)
