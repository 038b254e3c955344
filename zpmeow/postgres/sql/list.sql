-- One page, in the order of making. After a session that is gone comes nothing.
SELECT {session}, {status}, c.device_jid, statement_timestamp() AS read_at
FROM sessions s
JOIN session_status t ON t.session_id = s.id
JOIN session_credential c ON c.session_id = s.id
WHERE {condition}
ORDER BY s.created_at, s.id
LIMIT {limit}
