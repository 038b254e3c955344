"""The scenarios, a file each; the name of the file is the name of the scenario."""

import pkgutil


def scenario_names() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
