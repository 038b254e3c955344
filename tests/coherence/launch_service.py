"""Runs the service's own command line after patching it: with a protection switched off, or with a way to die.

Nothing of this is in the production code. Which patches are made is told by the environment:

    ZPMEOW_COHERENCE_SABOTAGE    names of saboteurs, parted by commas
    ZPMEOW_COHERENCE_FAILPOINT   a file: the first committed write that finds it there removes it and kills the process,
                                 before anything of the write is remembered here or sent anywhere
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.coherence.saboteurs import PATCHES
from zpmeow import cli
from zpmeow.cache.tiered_cache import TieredCache

SABOTAGE = "ZPMEOW_COHERENCE_SABOTAGE"
FAILPOINT = "ZPMEOW_COHERENCE_FAILPOINT"

Step = Callable[..., Awaitable[None]]


def arm(failpoint: Path) -> None:
    """Make the process die between a commit and the first word about it, when the file is there."""

    def dying_before(step: Step) -> Step:
        async def die_or_go_on(*arguments: Any, **named: Any) -> None:  # noqa: ANN401  (whatever the step takes)
            if took(failpoint):
                os.kill(os.getpid(), signal.SIGKILL)
            await step(*arguments, **named)

        return die_or_go_on

    for name in ("publish", "remove"):
        setattr(TieredCache, name, dying_before(getattr(TieredCache, name)))


def took(file: Path) -> bool:
    """Remove the file; tell whether it was there."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def main() -> int:
    """Patch, and run the command line."""
    for name in filter(None, os.environ.get(SABOTAGE, "").split(",")):
        PATCHES[name]()
    failpoint = os.environ.get(FAILPOINT)
    if failpoint:
        arm(Path(failpoint))
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
