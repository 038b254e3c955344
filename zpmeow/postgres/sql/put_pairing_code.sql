WITH target AS MATERIALIZED (
    SELECT s.*
    FROM sessions s
    JOIN session_qr q ON q.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, q
), changed AS (
    UPDATE session_qr
    SET pairing_code = $2, pairing_expires_at = clock_timestamp() + make_interval(secs => $3)
    FROM target
    WHERE session_id = target.id
    RETURNING session_qr.*
)
SELECT {session}, {qr}
FROM target s, changed q
