"""A service process of the run: the service's own command line behind `launch_service`, always on the same port."""

from collections.abc import Mapping, Sequence

from tests.coherence.launch_service import FAILPOINT, SABOTAGE
from tests.servers.service import Service


class ServiceProcess(Service):
    """One service process, which can be told to die between a commit and the first word about it."""

    MODULE = "tests.coherence.launch_service"

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
