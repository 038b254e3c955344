-- All four rows are locked before the version is drawn: it is above every version that they ever had. No stronger lock
-- than that of the other writes: a foreign writer who updates one of the rows twice asks for his session's row, too, and
-- FOR UPDATE would have him wait for us while we wait for him.
WITH target AS MATERIALIZED (
    SELECT s.id
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, t, q, c
)
DELETE FROM sessions s
USING target
WHERE s.id = target.id
RETURNING {session}, nextval('record_version') AS removal_version
