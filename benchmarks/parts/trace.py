"""A Zipf trace, as quickly as it is answered: few sessions are asked for often, most of them rarely, and statuses and
codes change. Lifetimes are the real ones: it is no day in a minute, and what expires does so less often a read.

How many of the database's queries does the cache save, and how many answers come from it? Without a cache each read is
a query. With it, one is counted for each read that was not answered from a cache, and for each comparison of the
inspector: that several of them share a conversation is not the cache's doing.
"""

import asyncio
import bisect
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.page import Row, Section, at_least
from benchmarks.harness.rounds import spread
from benchmarks.harness.stage import Target, open_stage
from benchmarks.harness.subjects import OPERATOR_KEY, Stores, Zpmeow
from benchmarks.harness.wrk import LoadFailedError
from tests.coherence.http_client import Answer, HttpClient, Request

_SESSIONS = 10_000
_ROUNDS = 3
_REQUESTS = 300_000  # Each session is read for the first time once: with fewer, that is what would be measured.
_CALLERS = 20
_CHANGES_RATIO = 0.05
_EXPONENT = 1.0
_PAIRING = 50  # So many sessions' codes are looked at, the ones that were put last.
_READS = ("info", "status", "qr")
_READ_WEIGHTS = (6, 3, 1)
_FROM_A_CACHE = "hit"


@dataclass(slots=True, frozen=True, kw_only=True)
class Played:
    """What one round has shown.

    Attributes:
        answers: how many reads were answered with which Cache-Status.
        seconds: how long it took.
        compared: how many entries the inspector held against the database.
        conversations: how often the database was asked for sessions, with one question or several.
    """

    answers: Counter[str]
    seconds: float
    compared: int
    conversations: int

    @property
    def reads(self) -> int:
        """How many there were."""
        return self.answers.total()

    @property
    def from_cache(self) -> int:
        """How many of them were answered from a cache."""
        return sum(many for source, many in self.answers.items() if _FROM_A_CACHE in source)

    @property
    def queries(self) -> int:
        """How many questions to the database were left."""
        return self.reads - self.from_cache + self.compared


def measure(tell: Callable[[str], None]) -> Section:
    """Play the trace so many times, each with empty caches."""
    played = []
    with open_stage(sessions=_SESSIONS) as stage:
        for number in range(_ROUNDS):
            tell(f"round {number + 1} of {_ROUNDS}")
            stage.redis.flush()
            played.append(_measure_one(stage.stores, stage.targets, seed=number))
    return Section(title="A Zipf trace", rows=list(_rows(played)), lines=list(_lines(played)))


def _measure_one(stores: Stores, targets: Sequence[Target], *, seed: int) -> Played:
    subject = Zpmeow("zpmeow")
    subject.start(stores)
    try:
        began = time.monotonic()
        with on_cores(OTHER_CORES):
            answers = asyncio.run(_play(subject, targets, seed=seed))
        seconds, metrics = time.monotonic() - began, subject.service.metrics()
    finally:
        subject.stop()
    finds = (metrics.total("zpmeow_db_query_duration_seconds_count", query=query) for query in ("find", "find_many"))
    return Played(
        answers=answers,
        seconds=seconds,
        compared=int(metrics.total("zpmeow_consistency_checks_total")),
        conversations=int(sum(finds)),
    )


def _rows(played: Sequence[Played]) -> Iterator[Row]:
    saved = spread([1 - one.queries / one.reads for one in played])
    cached = spread([one.from_cache / one.reads for one in played])
    yield at_least("database queries saved, Zipf trace", 0.9, saved)
    yield at_least("answers from a cache, Zipf trace", 0.95, cached)


def _lines(played: Sequence[Played]) -> Iterator[str]:
    yield (
        f"{_REQUESTS:,} requests to {_SESSIONS:,} sessions, the n-th as often as 1/n (Zipf, exponent {_EXPONENT:g}), by"
        f" {_CALLERS} callers, each with its next as soon as it has its answer. {_CHANGES_RATIO:.0%} put a status or a"
        f" code by turns, the others read {', '.join(_READS)} ({':'.join(map(str, _READ_WEIGHTS))}). In pairing are the"
        f" last {_PAIRING} sessions that a code was put for: only theirs are asked for, and what is put for them is"
        f" another code. {_ROUNDS} rounds, each with an empty Redis and a new process. Lifetimes are not scaled: hardly"
        " an entry expires in Redis, and one of the local tier lives for 5 s."
    )
    yield ""
    yield (
        "Without a cache each read is a query. With it, one is counted for each read that no cache answered and for"
        " each comparison of the inspector. Conversations, in which the database is asked for one session or several,"
        " are fewer, but that is no merit of the cache."
    )
    yield ""
    for number, one in enumerate(played, 1):
        told = ", ".join(f"`{source}` {many:,}" for source, many in one.answers.most_common())
        yield (
            f"- Round {number}: {one.reads:,} reads ({_REQUESTS / one.seconds:,.0f} requests a second for"
            f" {one.seconds:.0f} s), {one.queries:,} queries left, {one.compared:,} of them the inspector's, in"
            f" {one.conversations:,} conversations; {told}"
        )


async def _play(subject: Zpmeow, targets: Sequence[Target], *, seed: int) -> Counter[str]:
    """Return how often which Cache-Status was seen on a read."""
    port = urlsplit(subject.url).port
    assert port is not None
    seen: Counter[str] = Counter()
    trace = _trace(targets, random.Random(seed))

    async def call() -> None:
        with closing(HttpClient(port)) as client:
            for request in trace:
                answer = await client.ask(request)
                if request.method == "GET":
                    seen[_source(request, answer)] += 1

    await asyncio.gather(*(call() for _ in range(_CALLERS)))
    return seen


def _trace(targets: Sequence[Target], chance: random.Random) -> Iterator[Request]:
    shuffled = chance.sample(targets, len(targets))
    sums = list(itertools.accumulate(1 / number**_EXPONENT for number in range(1, len(targets) + 1)))
    pairing: deque[Target] = deque(maxlen=_PAIRING)
    for number in range(_REQUESTS):
        target = shuffled[bisect.bisect_left(sums, chance.random() * sums[-1])]
        path = f"/sessions/{target.session_id}"
        if chance.random() >= _CHANGES_RATIO:
            (what,) = chance.choices(_READS, _READ_WEIGHTS)
            if what == "qr" and pairing:
                target = chance.choice(pairing)
                path = f"/sessions/{target.session_id}"
            elif what == "qr":
                what = "info"
            yield Request(method="GET", path=f"{path}/{what}", key=target.key)
        elif number % 2 or target in pairing:
            pairing.append(target)
            yield Request(method="PUT", path=f"{path}/qr", key=OPERATOR_KEY, body={"qr_code": f"2@{number}"})
        else:
            body = {"status": "error", "reason": f"trial {number}"}
            yield Request(method="PUT", path=f"{path}/status", key=OPERATOR_KEY, body=body)


def _source(request: Request, answer: Answer) -> str:
    # A code may have been asked for before it was put: several callers play the trace.
    has_no_code = request.path.endswith("/qr") and answer.status == 404
    if answer.status != 200 and not has_no_code:
        message = f"{request}: {answer.status} {answer.body[:200]!r}"
        raise LoadFailedError(message)
    return answer.cache_status or "none"
