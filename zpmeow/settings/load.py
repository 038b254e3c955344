"""From the environment and `.env` to `Settings`, or to one line that says which variable is wrong."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from zpmeow.settings.groups import (
    BreakerSettings,
    CacheSettings,
    DatabaseSettings,
    EmbeddedSettings,
    LogSettings,
    ServerSettings,
)

ENV_FILE: Final = Path(".env")


class SettingsError(Exception):
    """A setting is wrong. The text is one line that names the variable and holds no value."""


class Settings(BaseModel):
    """All settings of one process. Read once, at the start; nothing changes them after."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    cache: CacheSettings = CacheSettings()
    breaker: BreakerSettings = BreakerSettings()
    log: LogSettings = LogSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()

    def warnings(self) -> list[str]:
        """Return what is allowed but hardly meant, one line each, to be logged at the start."""
        return [*self.server.warnings(), *self.database.warnings(), *self.cache.warnings()]

    def secrets(self) -> list[str]:
        """Return every secret in clear, so that the log can refuse to write them."""
        return [*self.server.secrets(), *self.database.secrets(), *self.cache.secrets()]


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = ENV_FILE) -> Settings:
    """Read the settings.

    Args:
        environ: the environment; None: the process's own. Wins over the file.
        env_file: a file of `NAME=value` lines, read if it is there; None: no file.

    Raises:
        SettingsError: something is wrong; its text names all variables that are.
    """
    from_file = _read_env_file(env_file)
    from_environment = _set_variables(os.environ if environ is None else environ)
    variables = from_file | from_environment
    only_in_file = dict.fromkeys(from_file.keys() - from_environment.keys(), f" (in {env_file})")
    groups: dict[str, BaseModel] = {}
    problems: list[str] = []
    for name, field in Settings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type)
        assert issubclass(group, BaseModel)
        try:
            mine = _variables_of(group, variables)
            problems += [f"{variable}: expected text in UTF-8" for variable, text in mine.items() if not _is_text(text)]
            groups[name] = group.model_validate(mine)
        except ValidationError as error:
            problems += _problems(error, only_in_file)
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings.model_validate(groups)


def _read_env_file(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}  # A folder of that name is common: it is someone's virtual environment.
    try:
        # utf-8-sig: editors on Windows put a byte order mark before the first name.
        source = DotEnvSettingsSource(
            BaseSettings, env_file=path, env_file_encoding="utf-8-sig", case_sensitive=True, env_ignore_empty=True
        )
    except (OSError, UnicodeError) as error:
        message = f"{path}: cannot be read ({type(error).__name__})"
        raise SettingsError(message) from None
    return _set_variables(source.env_vars)


def _set_variables(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Leave out what is empty: it counts as not set."""
    return {name: value for name, value in variables.items() if value is not None and value.strip()}


def _variables_of(group: type[BaseModel], variables: Mapping[str, str]) -> dict[str, str]:
    names = (str(field.validation_alias) for field in group.model_fields.values())
    return {name: variables[name] for name in names if name in variables}


def _is_text(value: str) -> bool:
    """Tell whether it is text; the environment's undecodable bytes come as halves of surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problems(error: ValidationError, only_in_file: Mapping[str, str]) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        names = [str(part) for part in detail["loc"] if isinstance(part, str) and part.isupper()]
        prefix = f"{names[0]}{only_in_file.get(names[0], '')}: " if names else ""
        lines.append(prefix + detail["msg"])
    return lines
