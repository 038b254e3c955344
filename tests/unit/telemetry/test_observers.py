"""Several observers as one."""

from zpmeow.events import Event, Observers, RequestStarted, SessionRead


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.told: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        """Keep the event."""
        self.told.append(event)


class Choosy(Recorder):
    """Does not want to hear of requests."""

    ignores = frozenset({RequestStarted})


def test_each_member_is_told_of_what_it_does_not_ignore() -> None:
    """Who names kinds of events is not called for these, each time; all others hear of everything."""
    everything, some = Recorder(), Choosy()
    observers = Observers((everything, some))
    started, read = RequestStarted(), SessionRead("a", from_cache=True)

    for event in (started, read, started, read):
        observers(event)

    assert everything.told == [started, read, started, read]
    assert some.told == [read, read]
