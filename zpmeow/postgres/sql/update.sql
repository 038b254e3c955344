-- The four rows are locked in their order, so that all that is answered is of one moment, whoever was waited for.
WITH target AS MATERIALIZED (
    SELECT s.id AS target_id, {status}, {qr}, {credential}
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, t, q, c
), allowed AS MATERIALIZED (
    -- As in create.sql: two sessions that swap their names would wait for each other.
    SELECT target_id AS allowed_id
    FROM target
    WHERE NOT EXISTS (SELECT FROM sessions o WHERE o.name = $2 AND o.id <> target_id)
), changed AS (
    UPDATE sessions
    SET name = coalesce($2, name),
        key_hash = coalesce($3, key_hash),
        proxy_url = CASE WHEN $4::boolean THEN $5 ELSE proxy_url END,
        proxy_password = CASE WHEN $4::boolean THEN $6 ELSE proxy_password END,
        webhook_url = CASE WHEN $7::boolean THEN $8 ELSE webhook_url END,
        webhook_events = CASE WHEN $7::boolean THEN $9 ELSE webhook_events END,
        updated_at = clock_timestamp()
    FROM allowed
    WHERE id = allowed_id
    RETURNING sessions.*
)
SELECT s.id IS NULL AS name_taken, {session}, target.*
FROM target
LEFT JOIN changed s ON true
