-- The engine's word on a command ($1): done, or failed for a reason ($2). The first word counts; if the engine says who it
-- is ($3), only while no other one has the command. If the session has another command, that one's time has come.
--
-- A session that has just been connected need not be connected again: what was wished meanwhile is done, too. Unless its
-- engine has fallen silent since.
WITH target AS MATERIALIZED (
    SELECT *, coalesce($3::uuid <> leased_to AND leased_until > clock_timestamp(), false) AS is_anothers
    FROM engine_commands
    WHERE id = $1
    FOR UPDATE
), ended AS (
    UPDATE engine_commands c
    SET outcome = coalesce(target.outcome, CASE WHEN $2::text IS NULL THEN 'done' ELSE 'failed' END),
        error = CASE WHEN target.outcome IS NULL THEN $2 ELSE target.error END,
        ended_at = coalesce(target.ended_at, clock_timestamp()),
        phone = NULL, leased_until = NULL
    FROM target
    WHERE c.id = target.id AND NOT is_anothers AND (target.outcome IS NULL OR target.leased_until IS NOT NULL)
    RETURNING c.id, c.outcome
), later AS MATERIALIZED (
    SELECT n.id, n.action
    FROM engine_commands n
    JOIN target ON n.session_id = target.session_id AND n.seq > target.seq
    WHERE EXISTS (SELECT FROM ended) AND n.outcome IS NULL
    FOR UPDATE OF n SKIP LOCKED
), done_already AS (
    UPDATE engine_commands c
    SET outcome = 'withdrawn', ended_at = clock_timestamp()
    FROM later, ended, target
    JOIN session_status s ON s.session_id = target.session_id
    WHERE c.id = later.id AND later.action = 'connect'
        AND ended.outcome = 'done' AND target.action IN ('connect', 'pair')
        AND s.status IN ('connecting', 'connected') AND (s.valid_until > clock_timestamp()) IS NOT FALSE
)
SELECT target.session_id, target.action, target.is_anothers, ended.outcome AS ended_as,
       CASE WHEN EXISTS (SELECT FROM later) THEN pg_notify('zpmeow_changes', 'command::0') END AS told
FROM target
LEFT JOIN ended ON true
