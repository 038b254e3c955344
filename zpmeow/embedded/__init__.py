"""PostgreSQL and Redis servers from wheels, for a machine that has none: started, reused, stopped with the service."""
