"""What of the domain is cached and how: keys, policies, bytes ↔ records, and the cached repository."""
