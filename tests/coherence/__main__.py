"""Runs the checker: `python -m tests.coherence --reads 1000000 --seed 7` prints a report in Markdown.

Exit code 1: a violation was found, a kind of fault never came, or there were too few reads.
"""

import argparse
import sys
import time

from tests.coherence.faults import ALL_KINDS
from tests.coherence.run import Scenario, run
from tests.coherence.saboteurs import PATCHES
from tests.servers.postgres_server import PostgresInstallation


def main() -> int:
    """Run once by the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.coherence", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="makes the same choices again")
    parser.add_argument("--reads", type=int, default=0, help="read so often at least")
    parser.add_argument("--seconds", type=float, default=0.0, help="run so long at least")
    parser.add_argument("--processes", type=int, default=2, help="how many service processes")
    parser.add_argument("--no-sql", action="store_true", help="without writers that use SQL")
    parser.add_argument("--kind", action="append", choices=sorted(ALL_KINDS), help="only these kinds of faults")
    parser.add_argument("--no-faults", action="store_true", help="without faults")
    parser.add_argument("--no-calm", action="store_true", help="faults without a pause")
    parser.add_argument("--foreign-seconds", type=float, default=60.0, help="how long foreign transactions last")
    parser.add_argument("--sabotage", action="append", choices=sorted(PATCHES), help="switch a protection off")
    parser.add_argument("--first", action="store_true", help="end at the first violation")
    arguments = parser.parse_args()
    scenario = Scenario(
        seed=arguments.seed,
        reads=arguments.reads,
        seconds=arguments.seconds,
        processes=arguments.processes,
        sql=not arguments.no_sql,
        kinds=() if arguments.no_faults else tuple(arguments.kind or ALL_KINDS),
        is_calm=not arguments.no_calm,
        foreign_seconds=arguments.foreign_seconds,
        sabotage=tuple(arguments.sabotage or ()),
        ends_at_first_violation=arguments.first,
    )
    installation = PostgresInstallation()
    try:
        report = run(scenario, installation)
    except KeyboardInterrupt:
        return 130
    finally:
        installation.close()
    sys.stdout.write(report.markdown())
    for problem in report.problems:
        sys.stderr.write(f"coherence: {problem}\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
