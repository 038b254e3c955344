"""What runs a scenario: the load, the measurements, the limits, the table."""
