"""Engines under faults: `python -m tests.engines --seconds 300 --seed 7` prints a report in Markdown.

Exit code 1: a wish did not come true, a command was done needlessly, an answer was wrong, a kind of fault never came.
"""

import argparse
import asyncio
import sys
import time

from tests.engines.run import Plan, run
from tests.servers.postgres_server import PostgresInstallation


def main() -> int:
    """Run once by the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="makes the same choices again")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long faults happen")
    parser.add_argument("--sessions", type=int, default=200, help="how many sessions")
    arguments = parser.parse_args()
    plan = Plan(seed=arguments.seed, seconds=arguments.seconds, sessions=arguments.sessions)
    installation = PostgresInstallation()
    try:
        report = asyncio.run(run(plan, installation))
    except KeyboardInterrupt:
        return 130
    finally:
        installation.close()
    sys.stdout.write(report.markdown())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
