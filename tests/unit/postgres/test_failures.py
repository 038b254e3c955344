"""What callers, metrics and operators are told of an error, and what nobody is told."""

import socket

import asyncpg
import pytest

from zpmeow.domain.errors import DatabaseUnavailable, SessionNotFound
from zpmeow.postgres.failures import ConstraintViolated, QueryFailedError, QueryOutcome, classify

SECRET = "5511999999999@s.whatsapp.net"


def server_error(sqlstate: str, *, message: str = "the primary message", constraint: str = "") -> asyncpg.PostgresError:
    """Make an error as asyncpg makes it from the server's message, with a detail that must not go on."""
    fields = {"S": "ERROR", "C": sqlstate, "M": message, "D": f"Key (x)=({SECRET}) is bad"}
    error = asyncpg.PostgresError.new({**fields, "n": constraint} if constraint else fields)
    assert SECRET in str(error)
    return error


@pytest.mark.parametrize("sqlstate", ["57P01", "57P02", "57P03", "08006", "08003"])
def test_the_database_is_gone_when_it_says_so(sqlstate: str) -> None:
    """A shutdown, a start, a broken connection: unavailable, and the operator is told the state."""
    failure = classify(server_error(sqlstate), connecting=False)

    assert isinstance(failure.error, DatabaseUnavailable)
    assert failure.problem == f"the primary message ({sqlstate})"


@pytest.mark.parametrize("sqlstate", ["53300", "28P01", "3D000", "57P03"])
def test_the_database_is_gone_when_it_accepts_no_connection(sqlstate: str) -> None:
    """Whatever the reason for which it lets nobody in."""
    failure = classify(server_error(sqlstate), connecting=True)

    assert isinstance(failure.error, DatabaseUnavailable)
    assert failure.problem == f"the primary message ({sqlstate})"


@pytest.mark.parametrize(
    ("sqlstate", "outcome"),
    [
        ("57014", QueryOutcome.TIMEOUT),
        ("55P03", QueryOutcome.TIMEOUT),
        ("25P03", QueryOutcome.TIMEOUT),
        ("25006", QueryOutcome.ERROR),
        ("40001", QueryOutcome.ERROR),
        ("40P01", QueryOutcome.ERROR),
        ("53100", QueryOutcome.ERROR),
        ("53200", QueryOutcome.ERROR),
        ("58030", QueryOutcome.ERROR),
    ],
)
def test_a_call_is_refused_for_now_when_the_database_cannot_do_it_now(sqlstate: str, outcome: QueryOutcome) -> None:
    """The caller may try again; the database answered, so it is not gone."""
    failure = classify(server_error(sqlstate), connecting=False)

    assert isinstance(failure.error, DatabaseUnavailable)
    assert (failure.outcome, failure.problem) == (outcome, None)


def test_a_call_is_refused_for_now_when_a_migration_changed_its_columns() -> None:
    """A statement that was prepared before the migration is prepared again by the next call."""
    failure = classify(asyncpg.InvalidCachedStatementError("cached plan must not change result type"), connecting=False)

    assert isinstance(failure.error, DatabaseUnavailable)
    assert failure.problem is None


def test_the_constraint_is_named_when_a_row_breaks_it() -> None:
    """The database did its part: no error for the metrics, the constraint's name for the caller."""
    failure = classify(server_error("23505", constraint="sessions_name_unique"), connecting=False)

    assert isinstance(failure.error, ConstraintViolated)
    assert failure.error.constraint == "sessions_name_unique"
    assert (failure.outcome, failure.problem) == (QueryOutcome.OK, None)


@pytest.mark.parametrize(
    "error",
    [
        server_error("22P02", message=f'invalid input syntax for type uuid: "{SECRET}"'),
        server_error("23514", message=f"a check of {SECRET}"),
        server_error("P0001", message=SECRET),
        server_error("XX000", message=SECRET),
        server_error("42P01"),
        asyncpg.DataError(f"invalid input for query argument $1: '{SECRET}'"),
        asyncpg.InterfaceError(SECRET),
        asyncpg.ClientConfigurationError(SECRET),
    ],
    ids=lambda error: f"{type(error).__name__}",
)
@pytest.mark.parametrize("connecting", [False, True])
def test_no_value_goes_on_when_an_error_quotes_one(error: Exception, connecting: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    """Details are dropped, and messages of kinds that quote values too."""
    failure = classify(error, connecting=connecting)

    assert SECRET not in f"{failure.error} {failure.error!r} {failure.problem}"


def test_our_sql_is_named_as_the_defect_when_the_server_does_not_understand_it() -> None:
    """A defect is no outage: it shows as what it is."""
    failure = classify(server_error("42P01", message='relation "x" does not exist'), connecting=False)

    assert isinstance(failure.error, QueryFailedError)
    assert str(failure.error) == 'relation "x" does not exist (42P01)'
    assert (failure.outcome, failure.problem) == (QueryOutcome.ERROR, None)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "the database's host name is not known"),
        (FileNotFoundError(2, "No such file"), "the database's socket does not exist"),
        (TimeoutError(), "no answer to the connection attempt"),
        (OSError(113, "No route to host"), "No route to host"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_the_reason_is_told_when_a_connection_cannot_be_made(error: OSError, problem: str) -> None:
    """Operators learn why, in a few words."""
    failure = classify(error, connecting=True)

    assert isinstance(failure.error, DatabaseUnavailable)
    assert failure.problem == problem


def test_a_refusal_goes_through_when_the_domain_made_it() -> None:
    """What a decision within a transaction raises is no failure of the database."""
    refusal = SessionNotFound("there is no such session")

    failure = classify(refusal, connecting=False)

    assert failure.error is refusal
    assert (failure.outcome, failure.problem) == (QueryOutcome.OK, None)


@pytest.mark.parametrize(
    ("error", "is_down"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), True),
        (FileNotFoundError(2, "No such file"), True),
        (server_error("57P03"), False),
        (server_error("57P01"), False),
        (server_error("53300"), False),
        (server_error("28P01"), False),
        (TimeoutError(), False),
        (OSError(113, "No route to host"), False),
        (ConnectionResetError(), False),
        (socket.gaierror(-2, "Name or service not known"), False),
    ],
)
def test_database_is_down_when_nobody_listens_there(error: Exception, is_down: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    """Only then can nobody else be served either; a silence, or a refusal of this one caller, proves nothing."""
    assert classify(error, connecting=True).is_down == is_down
    assert not classify(error, connecting=False).is_down
