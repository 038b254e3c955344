-- All four rows of a session. What is inserted by one statement of several parts is checked against its references at
-- the end.
WITH taken AS MATERIALIZED (
    -- The unique constraints decide in the end. Asking first keeps a writer who takes the name from waiting for one who
    -- gives it up, and who waits for him.
    SELECT EXISTS (SELECT FROM sessions WHERE name = $1) AS name_taken,
           EXISTS (SELECT FROM sessions WHERE key_hash = $2) AS key_taken
), new_session AS (
    INSERT INTO sessions (name, key_hash, proxy_url, proxy_password, webhook_url, webhook_events)
    SELECT $1, $2, $3, $4, $5, $6
    FROM taken
    WHERE NOT name_taken AND NOT key_taken
    RETURNING *
), new_status AS (
    INSERT INTO session_status (session_id) SELECT id FROM new_session RETURNING *
), new_qr AS (
    INSERT INTO session_qr (session_id) SELECT id FROM new_session RETURNING *
), new_credential AS (
    INSERT INTO session_credential (session_id) SELECT id FROM new_session RETURNING *
)
SELECT name_taken, key_taken, {session}, {status}, {qr}, {credential}
FROM taken
LEFT JOIN (new_session s CROSS JOIN new_status t CROSS JOIN new_qr q CROSS JOIN new_credential c) ON true
