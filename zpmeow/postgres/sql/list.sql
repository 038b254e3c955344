-- One page, in the order of making. After a session that is gone comes nothing.
SELECT {session}, {status}, c.device_jid
FROM {tables}
JOIN session_status t ON t.session_id = s.id
JOIN session_credential c ON c.session_id = s.id
WHERE {condition}
ORDER BY s.created_at, s.id
LIMIT $1
