-- One portion of commands that ended, or expired, more than $1 seconds ago: for so long an acknowledgement that is sent
-- twice is understood.
WITH old AS MATERIALIZED (
    SELECT id
    FROM engine_commands
    WHERE created_at < clock_timestamp() - make_interval(secs => $1)
        AND coalesce(ended_at, expires_at) < clock_timestamp() - make_interval(secs => $1)
        AND coalesce(leased_until, '-infinity') < clock_timestamp()
    ORDER BY created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM engine_commands WHERE id IN (SELECT id FROM old) RETURNING id
)
SELECT count(*) AS removed FROM removed
