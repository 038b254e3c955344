"""README's tour with an engine, as it stands there: each command is run, each answer held against what is printed."""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer
from tests.servers.service import REPOSITORY

MARK = "=-=-= next"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def steps() -> list[tuple[str, list[str]]]:
    """Read the commands of the section and what is printed below each."""
    section = (REPOSITORY / "README.md").read_text().partition("### With an engine\n")[2]
    section = section.partition("\n[docs/engines.md]")[0]
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(section):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def pattern(printed: list[str]) -> re.Pattern[str]:
    """Make what is printed a pattern: `…` is anything within a line, and whole lines where it stands alone."""
    lines = [".*" if line == "…" else re.escape(line).replace("…", "[^\n]*") for line in printed]
    return re.compile(r"\s*" + "\n".join(lines).replace("\n.*", "(?:\n.*)?") + r"\s*", re.DOTALL)


async def test_the_tour_goes_as_printed(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, tmp_path: Path
) -> None:
    """Connect, look at the code, be connected, lose the engine, be taken over, disconnect: word by word."""
    service = new_service(
        DATABASE_URL=database_url, REDIS_URL=redis_server.url, GLOBAL_API_KEY="", ENGINE_API_KEY=""
    ).start()
    await new_caller(service).call("POST", "/sessions/create", {"name": "test-session"}, key=None)
    commands = steps()
    script = f"\necho; echo '{MARK}'\n".join(command for command, _ in commands)
    script = script.replace("localhost:8080", f"localhost:{service.port}").replace("curl ", "curl -sS ")
    script = script.replace(".venv/bin/python examples/", f"{sys.executable} {REPOSITORY}/examples/")
    script = script.replace("simulated_engine.py", f"simulated_engine.py --url {service.url}")

    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    answers = output.decode().split(MARK)
    assert len(answers) == len(commands), output.decode()
    for (command, printed), answer in zip(commands, answers, strict=True):
        if printed:
            assert pattern(printed).fullmatch(answer), f"{command}\n{answer}"
    assert (tmp_path / "qr.png").read_bytes().startswith(b"\x89PNG")
