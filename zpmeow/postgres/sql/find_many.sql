-- All four records of some sessions, from one moment.
SELECT {session}, {status}, {qr}, {credential}
FROM sessions s
JOIN session_status t ON t.session_id = s.id
JOIN session_qr q ON q.session_id = s.id
JOIN session_credential c ON c.session_id = s.id
WHERE s.id = ANY ($1::uuid[])
