"""Turns events into metrics and log lines. The only door to prometheus_client."""
