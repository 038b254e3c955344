-- Within the transaction that holds the session's lock.
UPDATE session_status t
SET status = $2, desired_status = $3, reason = $4, changed_at = clock_timestamp()
WHERE session_id = $1
RETURNING t.session_id AS id, {status}
