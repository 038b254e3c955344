-- Promises that have ended, the longest ended first, at most $1; who should be connected gets a command to connect, so that
-- any engine takes over. Who is being written by somebody else may be getting a new promise, and is left for the next time.
-- The times are those of the statement's begin: an index can be asked for them.
WITH overdue AS MATERIALIZED (
    SELECT t.session_id
    FROM session_status t
    JOIN sessions s ON s.id = t.session_id
    WHERE t.valid_until <= statement_timestamp()
    ORDER BY t.valid_until
    LIMIT $1
    FOR NO KEY UPDATE OF s, t SKIP LOCKED
), recorded AS (
    UPDATE session_status t
    SET status = 'error', reason = 'engine_silent', changed_at = t.valid_until, valid_until = NULL
    FROM overdue
    WHERE t.session_id = overdue.session_id AND t.valid_until <= statement_timestamp()
    RETURNING t.session_id, t.desired_status
)
SELECT count(*) AS recorded,
       count(CASE WHEN desired_status = 'connected' THEN leave_command(session_id, 'connect', NULL)::text END) AS told
FROM recorded
