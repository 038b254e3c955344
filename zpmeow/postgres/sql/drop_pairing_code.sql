-- Within the transaction that holds the session's lock.
UPDATE session_qr q
SET pairing_code = NULL, pairing_expires_at = NULL
WHERE session_id = $1 AND pairing_code IS NOT NULL
RETURNING q.session_id AS id, {qr}
