-- All four rows are locked before the version is drawn: it is above every version that they ever had.
WITH target AS MATERIALIZED (
    SELECT s.id
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE {reference}
    FOR UPDATE OF s, t, q, c
)
DELETE FROM sessions s
USING target
WHERE s.id = target.id
RETURNING {session}, nextval('record_version') AS removal_version
