"""Loads entries from the truth: those of several sessions by one query.

    EntryKey, EntryKey, ... ── by session ── find, or find_many ── each key's record, or its error

Without a cache each request would be a query, and half of what that costs this process is the conversation, not the
answer. A load has a time of its own, whatever its callers have left.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from uuid import UUID

from zpmeow.cache.loads import LoadLimits
from zpmeow.cache.policy import EntryKey, Loaded, LoadFailure
from zpmeow.domain.errors import Overloaded, Unavailable
from zpmeow.domain.patience import patience_until, wait_patiently
from zpmeow.domain.ports import SessionRepository
from zpmeow.domain.records import Entity, Snapshot
from zpmeow.domain.references import ById
from zpmeow.repositories.cache_policies import RecordOf
from zpmeow.repositories.session_entries import SessionEntries

MOST_FAILURES = 3
"""Arbitrary: one or two sessions may be unreadable; with more, nothing is left but the statement."""

LOAD_RATIO = 0.9
"""The share of the truth's time that a load has, from when its first caller asked: they learn what became of it, not
only that their time is over."""

BOARDING_RATIO = 0.1
"""A load that has waited for longer than that share of the truth's time takes nobody any more: he would have too
little of it."""


def entry_load_limits(
    *, most_under_way: int, truth_seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> LoadLimits:
    """Return how many loads of entries there may be at once, and for how long.

    Args:
        most_under_way: so many queries are asked at once; what is wanted meanwhile makes up the next.
        truth_seconds: for how long a request may wait for the truth.
        monotonic: the clock of `patience_until`.
    """

    @contextmanager
    def within(waited_seconds: float) -> Iterator[None]:
        began = monotonic()
        with patience_until(began - waited_seconds + truth_seconds * LOAD_RATIO):
            try:
                yield
            except Unavailable as error:
                # Who waited in line for most of his time is told so: for what only reads, that is always true.
                if waited_seconds > monotonic() - began:
                    message = "no database connection came free in time"
                    raise Overloaded(message) from error
                raise

    return LoadLimits(
        wait=wait_patiently,
        most_under_way=most_under_way,
        boarding_seconds=truth_seconds * BOARDING_RATIO,
        within=within,
    )


class EntryLoads:
    """Asks the truth for the records behind keys; the keys of equal ones are loaded together."""

    def __init__(self, *, truth: SessionRepository, entries: SessionEntries) -> None:
        """Ask `truth`, and let `entries` make entries of its records."""
        self._truth = truth
        self._entries = entries

    async def __call__(self, keys: Sequence[EntryKey], /) -> Mapping[EntryKey, Loaded | LoadFailure]:
        """Load the records of the keys; a session that is not there has none."""
        by_session: dict[UUID, list[EntryKey]] = {}
        entities = set()
        for key in keys:
            of: RecordOf = key.of
            entities.add(of.entity)
            by_session.setdefault(of.session_id, []).append(key)
        found = await self._find_all(list(by_session), frozenset(entities))
        loaded: dict[EntryKey, Loaded | LoadFailure] = {}
        for session_id, its_keys in by_session.items():
            one = found.get(session_id)
            if isinstance(one, Snapshot):
                records = one.records
                loaded.update((key, self._entries.loaded(records[key.of.entity])) for key in its_keys)
            elif one is not None:
                loaded.update((key, one) for key in its_keys)
        return loaded

    async def _find_all(
        self, wanted: Sequence[UUID], entities: frozenset[Entity]
    ) -> Mapping[UUID, Snapshot | LoadFailure]:
        try:
            return await self._find(wanted, entities)
        except Unavailable:
            raise
        except Exception:
            if len(wanted) == 1:
                raise
            return await self._find_others(wanted, entities)

    async def _find_others(
        self, wanted: Sequence[UUID], entities: frozenset[Entity]
    ) -> Mapping[UUID, Snapshot | LoadFailure]:
        """One of the sessions cannot be read: who asked for another one shall not see that. So halves are asked for.

        Where the first sessions all fail it is the statement, and the others need not be asked for.
        """
        found: dict[UUID, Snapshot | LoadFailure] = {}
        failures, one_was_read = 0, False
        parts = _halves(wanted)
        while parts:
            part = parts.pop()
            try:
                found.update(await self._find(part, entities))
            except Unavailable as error:
                left = chain(part, *parts)
                return found | dict.fromkeys(left, LoadFailure(error))
            except Exception as error:
                if len(part) > 1:
                    parts += _halves(part)
                    continue
                failures += 1
                if failures == MOST_FAILURES and not one_was_read:
                    raise
                found[part[0]] = LoadFailure(error)
            else:
                one_was_read = True
        return found

    async def _find(self, wanted: Sequence[UUID], entities: frozenset[Entity]) -> Mapping[UUID, Snapshot]:
        if len(wanted) > 1:
            return await self._truth.find_many(wanted, entities)
        (session_id,) = wanted
        found = await self._truth.find(ById(session_id), entities)
        return {} if found is None else {session_id: found}


def _halves(some: Sequence[UUID]) -> list[Sequence[UUID]]:
    middle = len(some) // 2
    return [some[middle:], some[:middle]]
