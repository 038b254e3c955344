-- All four rows of a session. What is inserted by one statement of several parts is checked against its references at
-- the end.
WITH new_session AS (
    INSERT INTO sessions (name, key_hash, proxy_url, proxy_password, webhook_url, webhook_events)
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING *
), new_status AS (
    INSERT INTO session_status (session_id) SELECT id FROM new_session RETURNING *
), new_qr AS (
    INSERT INTO session_qr (session_id) SELECT id FROM new_session RETURNING *
), new_credential AS (
    INSERT INTO session_credential (session_id) SELECT id FROM new_session RETURNING *
)
SELECT {session}, {status}, {qr}, {credential}
FROM new_session s, new_status t, new_qr q, new_credential c
