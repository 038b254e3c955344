"""Writers with SQL, who know nothing of the service: psql, a migration, another program.

They change what clients change, several sessions in one transaction, too; they take their time before they commit, and
sometimes think better of it: a number that was rolled back is in no history, so that whoever shows it is found out.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tests.coherence.attempt import SQL
from tests.coherence.changes import Change, change_value, create, delete, rename, replace_key
from tests.coherence.ledger import VALUES, Slot
from tests.coherence.reading import Reader, question_of
from tests.coherence.sql_client import DatabaseAwayError, OutcomeUnknownError, RolledBackError, SqlClient
from tests.coherence.writing import Pen, choose_slot

_STRUCTURAL_RATIO = 0.2
_SEVERAL_RATIO = 0.15
_ROLLED_BACK_RATIO = 0.1
_HELD_RATIO = 0.1
_HELD_SECONDS = 0.3
_READ_AFTER_RATIO = 0.6
_READ_AFTER_SECONDS = (0.0, 0.3)  # Around the bound of 100 ms.


class Outsider:
    """Somebody with a connection to the database."""

    def __init__(self, *, client: SqlClient, pen: Pen, readers: Mapping[str, Reader], chance: random.Random) -> None:
        """Write through this client; read through these readers, one for each process."""
        self._client = client
        self._pen = pen
        self._readers = readers
        self._chance = chance

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        for reader in self._readers.values():
            reader.close()

    async def run(self, *, pause_seconds: float) -> None:
        """Write for ever, with random pauses of this mean."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / pause_seconds))
            if self._chance.random() < _STRUCTURAL_RATIO:
                await self._change_structure()
            else:
                await self._change_values()

    async def _change_values(self) -> None:
        chance, ledger = self._chance, self._pen.court.ledger
        many = 3 if chance.random() < _SEVERAL_RATIO else 1
        slots = {slot.number: slot for slot in (choose_slot(ledger, chance, structural=False) for _ in range(many))}
        value = chance.choice(VALUES)
        # In the order of their numbers: of two who lock the same rows none waits for the other in a circle.
        changes = [
            change_value(ledger, slot, slot.session, value, chance)
            for _, slot in sorted(slots.items())
            if slot.session is not None
        ]
        if chance.random() < _ROLLED_BACK_RATIO:
            await self._roll_back(changes)
        elif changes:
            await apply(self._client, self._pen, changes, held_seconds=self._held_seconds())
            await self._read_after(chance.choice(changes).slot, value)

    async def _change_structure(self) -> None:
        chance, ledger = self._chance, self._pen.court.ledger
        slot = choose_slot(ledger, chance, structural=True)
        if slot.lock.locked():
            return
        async with slot.lock:
            if slot.doubt is not None:
                return
            if slot.session is None:
                change = create(ledger, slot, chance)
            elif slot.is_mortal and chance.random() < 0.6:
                change = delete(ledger, slot, slot.session)
            elif chance.random() < 0.5:
                change = rename(ledger, slot, slot.session, chance)
            else:
                change = replace_key(ledger, slot, slot.session)
            await apply(self._client, self._pen, [change], held_seconds=self._held_seconds())
        await self._read_after(slot, chance.choice(VALUES))

    async def _roll_back(self, changes: Sequence[Change]) -> None:
        """Make the changes and take them back: nothing is told to the histories."""
        parts = [change.statements for change in changes]
        with suppress(DatabaseAwayError, OutcomeUnknownError, RolledBackError):
            await self._client.run(parts, held_seconds=self._chance.uniform(0, _HELD_SECONDS), commits=False)
            self._pen.counts.rolled_back.update(change.kind for change in changes)

    async def _read_after(self, slot: Slot, value: str) -> None:
        chance = self._chance
        if chance.random() < _READ_AFTER_RATIO:
            await asyncio.sleep(chance.uniform(*_READ_AFTER_SECONDS))
            reader = self._readers[chance.choice(tuple(self._readers))]
            await reader.read(question_of(slot, value, self._pen.court.ledger, chance))

    def _held_seconds(self) -> float:
        return self._chance.uniform(0, _HELD_SECONDS) if self._chance.random() < _HELD_RATIO else 0.0


async def apply(client: SqlClient, pen: Pen, changes: Sequence[Change], *, held_seconds: float = 0.0) -> None:
    """Make all of the changes in one transaction, and tell the histories what became of them."""
    attempts = [pen.begin(change, SQL) for change in changes]
    try:
        rows = await client.run([change.statements for change in changes], held_seconds=held_seconds)
    except OutcomeUnknownError:
        for attempt in attempts:
            attempt.unknown()
    except (DatabaseAwayError, RolledBackError):
        for attempt in attempts:
            attempt.refused()
    else:
        for attempt, change, row in zip(attempts, changes, rows, strict=True):
            if row is None and not change.needs_no_row:
                attempt.refused()  # The session was deleted meanwhile.
            else:
                attempt.done(row or {})
