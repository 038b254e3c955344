-- Within the transaction that holds the session's lock. $5: how many seconds the status is promised for, if it is; $6: the
-- promise stays as it is.
UPDATE session_status t
SET status = $2, desired_status = $3, reason = $4,
    valid_until = CASE WHEN $6::boolean THEN valid_until
                       ELSE clock_timestamp() + make_interval(secs => $5::double precision) END,
    -- A promise that has ended reads as an error: whatever comes after it is another status.
    changed_at = CASE WHEN (status, desired_status, reason) IS DISTINCT FROM ($2::text, $3::text, $4::text)
                           OR valid_until <= clock_timestamp()
                      THEN clock_timestamp() ELSE changed_at END
WHERE session_id = $1
RETURNING t.session_id AS id, {status}
