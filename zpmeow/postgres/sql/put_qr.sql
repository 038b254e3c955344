-- The newest code wins, by the time at which its engine made it ($4, may be null), as long as the one before would live.
-- What the row held is read by the part that locks it, as in put_credential.sql.
WITH target AS MATERIALIZED (
    SELECT s.*, q.version AS kept_version, q.code AS kept_code, q.expires_at AS kept_expires_at,
           q.pairing_code AS kept_pairing_code, q.pairing_expires_at AS kept_pairing_expires_at,
           q.issued_at > $4::timestamptz AND q.order_kept_until > clock_timestamp() AS knows_newer
    FROM sessions s
    JOIN session_qr q ON q.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, q
), changed AS (
    UPDATE session_qr
    SET code = $2, expires_at = clock_timestamp() + make_interval(secs => $3),
        issued_at = $4,
        order_kept_until = CASE WHEN $4 IS NOT NULL THEN clock_timestamp() + make_interval(secs => $3) END
    FROM target
    WHERE session_id = target.id AND knows_newer IS NOT TRUE
    RETURNING session_qr.*
)
SELECT {session},
       coalesce(q.version, kept_version) AS qr_version,
       coalesce(q.code, kept_code) AS code,
       coalesce(q.expires_at, kept_expires_at) AS expires_at,
       kept_pairing_code AS pairing_code,
       kept_pairing_expires_at AS pairing_expires_at
FROM target s
LEFT JOIN changed q ON true
