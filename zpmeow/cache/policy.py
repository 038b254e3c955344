"""What is cached and for how long: the types that a user of the cache describes its entries with.

A key is text; its policy says how its value becomes bytes and back, and how long it stays fresh. The
physical lifetime in the tier is longer: never shorter than a fence's, so that no slow fill can slip in
behind a value that has just expired, and as long as stale answers may be wanted.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Protocol, Self

FENCE_SECONDS = 600.0
"""The least lifetime of a fence: longer than any load, fill or late command can live. Where values live longer, fences
do as well: a server that evicts what ends first would drop them first (548 of 682 within 3 s)."""


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class EntryPolicy:
    """How the entries of one entity are kept. Two policies are the same only if they are one object.

    Attributes:
        entity: the name for metrics.
        kind: the entity's number in the envelope, 0 to 255. Never reused.
        schema: the number of the encoding; raised whenever `encode` changes its output.
        fresh_seconds: how long after it was loaded a value may be served.
        stale_seconds: how much longer it may be served, marked, while the database is away; 0 = never.
        encode: a value's bytes.
        decode: the reverse; raises ValueError, KeyError, TypeError or AttributeError on bytes that it cannot read.
            Nobody may change what it returns: many readers get the same.
        weigh: about how many bytes a value takes in this process.
    """

    entity: str
    kind: int
    schema: int
    fresh_seconds: float
    stale_seconds: float
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    weigh: Callable[[Any], int]

    @property
    def lifetime_seconds(self) -> float:
        """How long the key lives in the tier."""
        return max(self.fresh_seconds + self.stale_seconds, FENCE_SECONDS)


class EntryKey(str):
    """Where an entry stands: a text that has a policy. Keys are hashed dozens of times a read; a text remembers.

    `of` is for the loader: what the entry is of, in its own terms. Keys of one text are of the same.
    """

    __slots__ = ("of", "policy")
    policy: EntryPolicy
    of: Any

    def __new__(cls, text: str, policy: EntryPolicy, *, of: object = None) -> Self:
        """Make the key of an entry of this policy."""
        key = super().__new__(cls, text)
        key.policy = policy
        key.of = of
        return key

    @property
    def text(self) -> str:
        """The key as the tiers have it."""
        return self


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class HintPolicy:
    """How the hints of one kind are kept: `entity` is the name for metrics."""

    entity: str
    lifetime_seconds: float


@dataclass(slots=True, frozen=True)
class HintKey:
    """Where a hint stands, and its policy."""

    text: str
    policy: HintPolicy


@dataclass(slots=True, frozen=True, kw_only=True)
class HintAnswer:
    """What stands under a hint's key, if anything.

    `bypassed`: the tier was not even asked. `leads_nowhere`: the truth said a moment ago that there is nothing.
    """

    text: bytes | None
    bypassed: bool = False
    leads_nowhere: bool = False


@dataclass(slots=True, frozen=True, kw_only=True)
class Loaded:
    """A value as the truth has it.

    `expires_at_ms`: it must not be served at or after this moment (milliseconds since 1970, the
    database's clock), whatever the policy says; None: the policy alone decides.
    """

    value: Any
    version: int
    expires_at_ms: int | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class LoadMark:
    """When a load began: what it brings is as old as that, and belongs to the epoch of that moment.

    `began_at_ms` is the database's clock, `began_at` the monotonic one, in seconds.
    """

    began_at_ms: int
    began_at: float
    epoch: bytes | None


class LoadFailure:
    """What stands for a value that could not be loaded, where others could: the error of those who want it."""

    __slots__ = ("_error", "_traceback")

    def __init__(self, error: Exception) -> None:
        """Take what was raised."""
        self._error = error
        self._traceback = error.__traceback__

    def error(self) -> Exception:
        """Return it as it was raised first: each time that it is raised again, it grows a traceback."""
        return self._error.with_traceback(self._traceback)


class Loader(Hashable, Protocol):
    """Asks the truth for some keys at once. What is missing in the answer does not exist.

    Callers whose loaders are equal (they can be hashed) may have their keys loaded together.
    """

    async def __call__(self, keys: Sequence[EntryKey], /) -> Mapping[EntryKey, Loaded | LoadFailure]:
        """Load the values of the keys, or raise the error that means: the truth cannot answer now.

        A `LoadFailure` stands for one that cannot be loaded where others can.
        """
        ...


class TruthState(Enum):
    """Whether the truth answers. SILENT: it may be up, and answer others. DOWN: it refuses everybody."""

    ANSWERS = "answers"
    SILENT = "silent"
    DOWN = "down"


class Origin(StrEnum):
    """Who answered."""

    LOCAL = "local"
    TIER = "tier"
    LOAD_AFTER_MISS = "load_after_miss"
    LOAD_AFTER_BYPASS = "load_after_bypass"
    STALE = "stale"


@dataclass(slots=True, kw_only=True)
class Answer:
    """A value, its row's version, and who answered."""

    value: Any
    version: int
    origin: Origin
