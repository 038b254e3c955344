"""The command line: which command gets which settings, exit codes, one line for what was to be expected."""

import pytest

from zpmeow import __version__
from zpmeow.cli import main
from zpmeow.settings import Settings


class FakeCommand:
    """Takes note of the settings that it was given."""

    def __init__(self, *, exit_code: int = 0, failure: BaseException | None = None) -> None:
        """Return the code, or raise the failure."""
        self.given: list[Settings] = []
        self._exit_code = exit_code
        self._failure = failure

    def __call__(self, settings: Settings) -> int:
        """Do as told."""
        self.given.append(settings)
        if self._failure is not None:
            raise self._failure
        return self._exit_code


@pytest.mark.parametrize("exit_code", [0, 1])
def test_serve_runs_with_the_settings_and_returns_its_exit_code(exit_code: int) -> None:
    """What the service says is what the shell gets."""
    serve = FakeCommand(exit_code=exit_code)

    assert main(["serve"], environ={"SERVER_PORT": "9000"}, env_file=None, serve=serve) == exit_code

    assert serve.given[0].server.port == 9000


def test_options_win_over_the_environment() -> None:
    """`--host` and `--port` are settings like any other."""
    serve = FakeCommand()

    main(["serve", "--host", "::1", "--port", "1"], environ={"SERVER_PORT": "9000"}, env_file=None, serve=serve)

    assert (serve.given[0].server.host, serve.given[0].server.port) == ("::1", 1)


def test_public_host_on_the_command_line_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The rule about keys cannot be walked around."""
    serve = FakeCommand()

    assert main(["serve", "--host", "0.0.0.0"], environ={}, env_file=None, serve=serve) == 2

    assert serve.given == []
    assert capsys.readouterr().err.startswith("zpmeow: wrong setting: GLOBAL_API_KEY: must be set")


def test_migrate_runs_with_the_settings() -> None:
    """`zpmeow migrate` knows the database that is configured."""
    migrate = FakeCommand(exit_code=1)

    assert main(["migrate"], environ={"DB_HOST": "db"}, env_file=None, migrate=migrate) == 1

    assert migrate.given[0].database.host == "db"


@pytest.mark.parametrize("command", ["serve", "migrate", "doctor"])
def test_wrong_setting_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """No traceback: the variable, and what was expected."""
    assert main([command], environ={"CACHE_TIMEOUT": "soon"}, env_file=None) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("zpmeow: wrong setting: CACHE_TIMEOUT: expected")


def test_interrupt_is_exit_code_130_without_a_traceback() -> None:
    """Ctrl-C in the middle of a command is no error to be explained."""
    assert main(["serve"], environ={}, env_file=None, serve=FakeCommand(failure=KeyboardInterrupt())) == 130


def test_version_needs_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with the settings, the versions can be told."""
    assert main(["version"], environ={"CACHE_TIMEOUT": "soon"}, env_file=None) == 0

    out = capsys.readouterr().out
    assert out.startswith(f"zpmeow {__version__}\nPython 3.")
    assert "\nredis " in out


@pytest.mark.parametrize("argv", [[], ["fly"], ["serve", "--port"]])
def test_wrong_command_line_is_exit_code_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    """The usage is shown."""
    with pytest.raises(SystemExit) as caught:
        main(argv, environ={}, env_file=None)

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: zpmeow")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`zpmeow --help` is the way in."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in ("serve", "migrate", "doctor", "version"))
