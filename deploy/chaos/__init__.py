"""Faults against real processes under load, each with a hypothesis and limits that it has to keep."""
