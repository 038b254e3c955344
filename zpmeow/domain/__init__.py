"""Words and rules of a gateway's sessions: standard library only, no I/O.

`records` are the rows, `references` the ways to name a session, `transitions` the state machine,
`api_key` the format of keys, `errors` what can be refused, `ports` what the outside must offer.
"""
