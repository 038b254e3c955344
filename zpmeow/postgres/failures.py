"""What went wrong with the database, in our words: the one place that reads asyncpg's errors.

An error of the server carries a DETAIL that quotes values ("Key (device_jid)=(…) already exists"), and
asyncpg's own name the argument that they refuse. None of that may reach a log, so that no error of
asyncpg goes on, not even as the cause of ours.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from zpmeow.domain.errors import DatabaseUnavailable, DomainError


class QueryOutcome(StrEnum):
    """How a query ended. OK: the database did its part, even where that was to refuse a duplicate."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"


class ConstraintViolated(Exception):
    """A row would break a constraint of the schema; `constraint` is its name."""

    def __init__(self, constraint: str) -> None:
        """Name the constraint and nothing of the row."""
        super().__init__(f"the constraint {constraint} forbids it")
        self.constraint = constraint


class QueryFailedError(Exception):
    """The database understood us and says no: a defect of ours or of the schema."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Failure:
    """What the caller is told, what the metrics are told, and what is wrong with the database itself, if anything.

    `problem` is for operators: it may name hosts, users and databases, never values. `is_down`: nobody listens there.
    """

    error: Exception
    outcome: QueryOutcome
    problem: str | None
    is_down: bool = False


_CONSTRAINT_CLASS = "23"
# Their primary messages quote our SQL, names of the schema, or nothing. Those of class 22 (data) quote values.
_CLASSES_WITHOUT_VALUES = {"08", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58"}
# Server's conditions that pass, or that an operator mends while we go on: try again later.
_PASSING_CLASSES = {"08", "53", "57", "58"}
_PASSING_STATES = {
    "25006",  # read_only_sql_transaction: we are on a standby, after a failover
    "25P03",  # idle_in_transaction_session_timeout
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available, by lock_timeout
}
_TIMEOUT_STATES = {"57014", "55P03", "25P03"}  # query_canceled: by statement_timeout, nobody else cancels
_GONE_STATES = {"57P01", "57P02", "57P03", "57P05"}  # shut down, crashed, starting up, idle too long


def timed_out(seconds: float) -> Failure:
    """Tell of a call that had a connection, or was getting one, when its time was over."""
    return Failure(
        error=DatabaseUnavailable("the database did not answer in time"),
        outcome=QueryOutcome.TIMEOUT,
        problem=f"no answer within {seconds:g} s",
    )


def classify(error: Exception, *, connecting: bool) -> Failure:
    """Translate whatever a call raised; what is none of the database's goes through unchanged.

    Args:
        error: from asyncpg, the operating system, or the caller's own code within a transaction.
        connecting: there was no connection yet, so any refusal is one of the whole database.
    """
    match error:
        case asyncpg.PostgresError():
            return _classify_answer(error, connecting=connecting)
        case DatabaseUnavailable() if connecting:
            return Failure(error=error, outcome=QueryOutcome.ERROR, problem=str(error))
        case DomainError():
            return Failure(error=error, outcome=QueryOutcome.OK, problem=None)
        case OSError() | EOFError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return _classify_client_error(error, connecting=connecting)
        case _:
            return Failure(error=error, outcome=QueryOutcome.ERROR, problem=None)


def _classify_client_error(error: Exception, *, connecting: bool) -> Failure:
    text = "the database refused the connection" if connecting else "the connection to the database broke off"
    match error:
        case OSError():
            is_down = connecting and isinstance(error, (ConnectionRefusedError, FileNotFoundError))
            return _unreachable(text, _describe_os_error(error), is_down=is_down)
        case asyncpg.ClientConfigurationError():
            text = "the database's address is not valid"
            return _unreachable(text, text)
        case asyncpg.DataError():
            # Its text quotes the argument.
            refused = QueryFailedError("an argument does not fit its type")
            return Failure(error=refused, outcome=QueryOutcome.ERROR, problem=None)
        case _:
            return _unreachable(text, f"{text} ({type(error).__name__})")


def _classify_answer(error: asyncpg.PostgresError, *, connecting: bool) -> Failure:
    state = error.sqlstate or "XX000"
    description = _describe_answer(error, state)
    if connecting or state[:2] == "08" or state in _GONE_STATES:
        return _unreachable("the database does not accept connections now", description)
    # A migration changed a column under a transaction's prepared statement; asyncpg has dropped the statement by now.
    is_outdated = isinstance(error, asyncpg.InvalidCachedStatementError)
    if is_outdated or state in _PASSING_STATES or state[:2] in _PASSING_CLASSES:
        outcome = QueryOutcome.TIMEOUT if state in _TIMEOUT_STATES else QueryOutcome.ERROR
        return Failure(error=DatabaseUnavailable("the database cannot do this now"), outcome=outcome, problem=None)
    if state[:2] == _CONSTRAINT_CLASS and error.constraint_name:
        return Failure(error=ConstraintViolated(error.constraint_name), outcome=QueryOutcome.OK, problem=None)
    return Failure(error=QueryFailedError(description), outcome=QueryOutcome.ERROR, problem=None)


def _unreachable(text: str, problem: str, *, is_down: bool = False) -> Failure:
    return Failure(error=DatabaseUnavailable(text), outcome=QueryOutcome.ERROR, problem=problem, is_down=is_down)


def _describe_answer(error: asyncpg.PostgresError, state: str) -> str:
    """Give the sqlstate and, where it cannot quote values, the primary message; never the detail."""
    if state[:2] in _CLASSES_WITHOUT_VALUES:
        return f"{error.args[0]} ({state})"
    return f"{type(error).__name__} ({state})"


def _describe_os_error(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return "the database's host name is not known"
        case asyncio.TimeoutError():
            return "no answer to the connection attempt"
        case ConnectionRefusedError():
            return "connection refused"
        case FileNotFoundError():
            return "the database's socket does not exist"
        case _:
            return error.strerror or type(error).__name__
