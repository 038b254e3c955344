"""Figures: medians, ratios, what must be."""

from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.harness.page import Section, at_least, at_most, markdown
from benchmarks.harness.rounds import Rounds, Spread, spread
from benchmarks.parts.layers import _LAYERS, _layer_of
from benchmarks.parts.trace import Played
from tests.servers.service import REPOSITORY


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """What disturbs a whole round disturbs both subjects of it, and no ratio."""
    figures: Iterator[float] = iter([10.0, 20.0, 200.0, 100.0, 30.0, 90.0])
    rounds: Rounds[float] = Rounds(["one", "two"])

    rounds.run(3, lambda _name: next(figures), tell=lambda _what: None)

    assert rounds.spread("one", lambda figure: figure) == Spread(30.0, 10.0, 100.0, 3)
    assert rounds.ratio("two", "one", lambda figure: figure) == Spread(2.0, 2.0, 3.0, 3)


def test_every_other_round_goes_backwards() -> None:
    """Neither of two subjects is always the first."""
    rounds: Rounds[float] = Rounds(["one", "two"])
    told: list[str] = []

    rounds.run(3, lambda _name: 1.0, tell=told.append)

    assert [words.rpartition(" ")[2] for words in told] == ["one", "two", "two", "one", "one", "two"]
    assert told[2] == "round 2 of 3: two"


def test_spread_is_shown_of_what_was_measured_more_than_once() -> None:
    """One value has no least and no largest."""
    assert spread([1.0, 1.5, 3.0]).text(digits=2) == "1.50 (1.00 to 3.00)"
    assert spread([1.5, 1.5]).text(digits=0, unit=0.001) == "1,500 (1,500 to 1,500)"
    assert spread([1.5]).text(digits=1) == "1.5"


@pytest.mark.parametrize(("figure", "least", "most"), [(0.9, False, True), (1.0, True, True), (1.1, True, False)])
def test_row_is_met_when_its_median_is_within_the_bound(figure: float, *, least: bool, most: bool) -> None:
    """The bound itself is within."""
    assert at_least("it", 1, spread([figure])).is_met is least
    assert at_most("it", 1, spread([figure])).is_met is most


def test_page_shows_what_is_missed() -> None:
    """The rows of all parts stand at its top, the text of each below."""
    rows = [at_least("speed", 2, spread([1.0, 1.5, 3.0])), at_most("wait", 2, spread([1.0]))]
    page = markdown([Section(title="A part", rows=rows, lines=["text"])], described=["a machine"])

    assert "| speed | ≥ 2 | 1.50 (1.00 to 3.00) | **missed** |\n| wait | ≤ 2 | 1.00 | met |" in page
    assert page.index("a machine") < page.index("| speed |") < page.index("## A part\n\ntext")


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        (("main (zpmeow/__main__.py", "get (zpmeow/cache/local_tier.py"), "cache"),
        (("get (zpmeow/cache/redis_tier.py", "send (redis/asyncio/connection.py"), "Redis"),
        (("answer (zpmeow/api/endpoint.py", "loads (json/decoder.py"), "request and services"),
        (("resolve (aiohttp/web_urldispatcher.py",), "routing"),
        (("start (aiohttp/web_protocol.py",), "HTTP and event loop"),
        (("nothing (of/ours.py",), "other"),
    ],
)
def test_sample_counts_for_the_innermost_function_of_a_layer(stack: tuple[str, ...], layer: str) -> None:
    """A library's function that is of no layer counts for who called it."""
    assert _layer_of(stack) == layer


def test_conversations_save_no_queries() -> None:
    """Each read that no cache answered is a query, and so is each comparison; those that share a conversation, too."""
    answers = Counter({"zpmeow-local; hit": 60, "zpmeow-redis; hit": 30, "zpmeow; fwd=miss": 8, "none": 2})
    played = Played(answers=answers, seconds=1.0, compared=3, conversations=4)

    assert (played.reads, played.from_cache, played.queries) == (100, 90, 13)


def test_layers_are_those_of_the_service() -> None:
    """A module that was renamed would silently count as another layer."""
    ours = [prefix for prefixes in _LAYERS.values() for prefix in prefixes if prefix.startswith("zpmeow/")]
    modules = [str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "zpmeow").rglob("*.py")]

    assert [prefix for prefix in ours if not any(module.startswith(prefix) for module in modules)] == []
