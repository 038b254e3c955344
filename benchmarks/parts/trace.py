"""A day of a gateway in a minute: few sessions are asked for often, most of them rarely, and statuses and codes change.

How many of the database's queries does the cache save, and how many answers come from it?
"""

import asyncio
import bisect
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from urllib.parse import urlsplit

from benchmarks.harness.cores import OTHER_CORES, on_cores
from benchmarks.harness.page import Row, Section, at_least
from benchmarks.harness.rounds import spread
from benchmarks.harness.stage import Target, open_stage
from benchmarks.harness.subjects import OPERATOR_KEY, Zpmeow
from benchmarks.harness.wrk import LoadFailedError
from tests.coherence.http_client import Answer, HttpClient, Request
from tests.servers.service import Service

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


def measure(tell: Callable[[str], None]) -> Section:
    """Play the trace so many times, each with empty caches."""
    saved, cached, lines = [], [], []
    with open_stage(sessions=_SESSIONS) as stage:
        for number in range(_ROUNDS):
            tell(f"round {number + 1} of {_ROUNDS}")
            stage.redis.flush()
            subject = Zpmeow("zpmeow")
            subject.start(stage.stores)
            try:
                with on_cores(OTHER_CORES):
                    answers, reads = asyncio.run(_play(subject, stage.targets, seed=number))
                queries = _queries(subject.service)
            finally:
                subject.stop()
            saved.append(1 - queries / reads)
            cached.append(sum(many for source, many in answers.items() if _FROM_A_CACHE in source) / reads)
            told = ", ".join(f"`{source}` {many:,}" for source, many in answers.most_common())
            lines.append(f"- Round {number + 1}: {reads:,} reads by {queries:,} queries; {told}")
    rows = [
        at_least("database queries saved, Zipf trace", 0.9, spread(saved)),
        at_least("answers from a cache, Zipf trace", 0.95, spread(cached)),
    ]
    return Section(title="A Zipf trace", rows=rows, lines=list(_lines(rows, lines)))


def _lines(_rows: Sequence[Row], rounds: Sequence[str]) -> Iterator[str]:
    yield (
        f"{_REQUESTS:,} requests of {_CALLERS} callers to {_SESSIONS:,} sessions, the n-th as often as 1/n (Zipf,"
        f" exponent {_EXPONENT:g}); {_CHANGES_RATIO:.0%} change a status or a code, the others read {', '.join(_READS)}"
        f" ({':'.join(map(str, _READ_WEIGHTS))}). Every round begins with an empty Redis and a new process."
    )
    yield ""
    yield from rounds


async def _play(subject: Zpmeow, targets: Sequence[Target], *, seed: int) -> tuple[Counter[str], int]:
    """Return how often which Cache-Status was seen, and how many reads there were."""
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
    return seen, seen.total()


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


def _queries(service: Service) -> int:
    metrics, name = service.metrics(), "zpmeow_db_query_duration_seconds_count"
    return int(sum(metrics.total(name, query=query) for query in ("find", "find_many")))
