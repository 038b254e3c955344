"""The one error of the faults."""


class NotPossibleError(Exception):
    """The fault would have no effect: what it is to break was not there."""
