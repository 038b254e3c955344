"""Runs the benchmarks: `python -m benchmarks [part …]`; all of them write RESULTS.md."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.page import Section, markdown
from benchmarks.harness.versions import versions
from benchmarks.harness.wrk import LoadFailedError
from tests.servers.machine import describe

PARTS = ("throughput", "hung", "trace", "scale", "layers", "faults")
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    """Run the parts that the command line names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="only these")
    chosen = parser.parse_args().parts or PARTS
    try:
        # Before the first part: `layers` writes its profiles, and then the commit would be one with changes.
        described = [*describe(_command(chosen)), versions()]
        sections = []
        for part in chosen:
            sections.append(_measure(part))
            # At once, so that it is not lost if a later part breaks off.
            sys.stderr.write(markdown(sections[-1:], described=described))
    except LoadFailedError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    page = markdown(sections, described=described)
    sys.stdout.write(page)
    if set(chosen) == set(PARTS):
        RESULTS.write_text(page, encoding="utf-8")
    return 0


def _command(chosen: Sequence[str]) -> str:
    return "make bench" if set(chosen) == set(PARTS) else f'make bench PARTS="{" ".join(chosen)}"'


def _measure(part: str) -> Section:
    def tell(what: str) -> None:
        sys.stderr.write(f"{part}: {what}\n")

    section: Section = importlib.import_module(f"benchmarks.parts.{part}").measure(tell)
    return section


if __name__ == "__main__":
    # As by Ctrl-C: everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
