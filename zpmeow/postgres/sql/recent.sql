-- The most recently changed sessions: versions are drawn in the order of the changes. Reads all rows, which is right for
-- an operator's seldom wish; an index on each version would cost every write.
SELECT {session}, {status}, {qr}, {credential}
FROM sessions s
JOIN session_status t ON t.session_id = s.id
JOIN session_qr q ON q.session_id = s.id
JOIN session_credential c ON c.session_id = s.id
ORDER BY greatest(s.version, t.version, q.version, c.version) DESC
LIMIT $1
