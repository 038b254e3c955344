"""Real PostgreSQL and Redis servers for tests: started on free ports, paused, killed and brought back at will."""
