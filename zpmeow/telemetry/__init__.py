"""Turns events into metrics (`metrics`) and log lines (`log_observer`, on the log that `logs` opens)."""
