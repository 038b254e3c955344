"""A service process of the run: the service's own command line behind `launch_service`, always on the same port."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from typing_extensions import override

from tests.coherence.launch_service import FAILPOINT, SABOTAGE
from tests.servers.service import REPOSITORY, Service, own_settings


class ServiceProcess(Service):
    """One service process, which can be told to die between a commit and the first word about it."""

    def __init__(self, *, environment: Mapping[str, str], sabotage: Sequence[str] = ()) -> None:
        """Prepare a process with these settings and these protections switched off."""
        super().__init__(environment=environment)
        self._failpoint = self.folder / "failpoint"
        self.set(**{SABOTAGE: ",".join(sabotage), FAILPOINT: str(self._failpoint)})

    def arm_failpoint(self) -> None:
        """Let the next write that commits kill the process."""
        self._failpoint.touch()

    def disarm_failpoint(self) -> bool:
        """Take that back; tell whether it was still to come."""
        armed = self._failpoint.exists()
        self._failpoint.unlink(missing_ok=True)
        return armed

    @override
    def spawn(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in own_settings()}
        environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "SERVER_PORT": str(self.port),
            "LOG_FORMAT": "json",
            **self._settings,
        }
        with (self.folder / "stdout").open("ab") as output, (self.folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.coherence.launch_service", *(arguments or ("serve",))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
