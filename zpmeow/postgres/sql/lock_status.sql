-- The current status, locked with its session until the transaction ends.
SELECT {session}, {status}
FROM sessions s
JOIN session_status t ON t.session_id = s.id
WHERE {reference}
FOR NO KEY UPDATE OF s, t
