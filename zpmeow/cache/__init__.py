"""A resilient cache of bytes: a tier in another process, behind mode, breaker and deadline.

It knows no sessions and could be a library of its own. `tiered_cache` is what users hold; below it
`resilient_tier` guards `redis_tier`; both speak the port in `tier`. `envelope` is the format of what
is stored. No error of a tier leaves `tiered_cache`.
"""
