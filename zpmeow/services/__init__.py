"""Use cases: what a caller may ask for, in the domain's words. No I/O library is imported here."""
