-- What the rows held is read by the part that locks them: it waits and then sees their newest state, whereas the other
-- parts see the moment at which the statement began.
WITH target AS MATERIALIZED (
    SELECT s.*, q.code IS NOT NULL OR q.pairing_code IS NOT NULL AS had_code, c.version AS kept_version, c.device_jid AS kept_jid,
           c.paired_at AS kept_paired_at
    FROM sessions s
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, q, c
), allowed AS MATERIALIZED (
    -- The unique constraint decides in the end. Asking first keeps two sessions that swap their devices at the same
    -- time from waiting for each other.
    SELECT id AS allowed_id, had_code, kept_jid
    FROM target
    WHERE NOT EXISTS (SELECT FROM session_credential o WHERE o.device_jid = $2 AND o.session_id <> target.id)
), dropped AS (
    UPDATE session_qr
    SET code = NULL, expires_at = NULL, pairing_code = NULL, pairing_expires_at = NULL
    FROM allowed
    WHERE session_id = allowed_id AND had_code
    RETURNING session_qr.*
), changed AS (
    UPDATE session_credential
    SET device_jid = $2, paired_at = clock_timestamp()
    FROM allowed
    WHERE session_id = allowed_id AND kept_jid IS DISTINCT FROM $2
    RETURNING session_credential.*
)
SELECT {session}, {qr}, allowed_id IS NULL AS taken,
       coalesce(c.version, s.kept_version) AS credential_version,
       coalesce(c.device_jid, s.kept_jid) AS device_jid,
       coalesce(c.paired_at, s.kept_paired_at) AS paired_at
FROM target s
LEFT JOIN allowed ON true
LEFT JOIN dropped q ON true
LEFT JOIN changed c ON true
