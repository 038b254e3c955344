-- Lends commands to an engine ($1) for $4 seconds: those of at most $3 sessions, of each session all that are open, in
-- order. Who gets one to connect or to pair has the session from now on. What was lent to it later than its cursor says
-- ($2) never reached it, and is as good as not lent.
--
-- Of each session the first open command is locked before the others are looked at: who has that has the session. A
-- session of which anything is lent waits. Conditions on the command itself are checked again when its lock was waited
-- for; those on others need not be, since only who has the first one lends them.
WITH heads AS MATERIALIZED (
    SELECT c.session_id
    FROM engine_commands c
    WHERE c.outcome IS NULL AND c.expires_at > statement_timestamp()
        AND (c.leased_until > statement_timestamp() AND NOT (c.leased_to = $1 AND c.delivery > $2)) IS NOT TRUE
        -- Not as NOT EXISTS: that would be a join with all that is open, before the first ten are found.
        AND (
            SELECT true FROM engine_commands o
            WHERE o.session_id = c.session_id AND (o.outcome IS NULL OR o.leased_until IS NOT NULL)
                AND (o.leased_until > statement_timestamp() AND NOT (o.leased_to = $1 AND o.delivery > $2)
                     OR o.seq < c.seq AND o.outcome IS NULL AND o.expires_at > statement_timestamp())
            LIMIT 1
        ) IS NULL
    ORDER BY c.seq
    LIMIT $3
    FOR UPDATE OF c SKIP LOCKED
), open AS MATERIALIZED (
    SELECT c.id AS open_id
    FROM engine_commands c
    WHERE c.session_id IN (SELECT session_id FROM heads)
        AND c.outcome IS NULL AND c.expires_at > statement_timestamp()
        AND (c.leased_until > statement_timestamp() AND NOT (c.leased_to = $1 AND c.delivery > $2)) IS NOT TRUE
    ORDER BY c.seq
    FOR UPDATE OF c SKIP LOCKED
), taken AS (
    UPDATE engine_commands c
    SET leased_to = $1, leased_until = clock_timestamp() + make_interval(secs => $4),
        delivery = nextval('engine_command_delivery'), deliveries = deliveries + 1
    FROM open
    WHERE c.id = open_id
    RETURNING c.*
), held AS (
    INSERT INTO engine_holdings (session_id, engine)
    SELECT DISTINCT session_id, $1::uuid FROM taken WHERE action IN ('connect', 'pair')
    ON CONFLICT (session_id) DO UPDATE SET engine = excluded.engine WHERE engine_holdings.engine <> excluded.engine
), due AS (
    -- When it makes sense to ask again, if nobody tells of anything before: when the first lease ends; in a second, if
    -- something is free and was not taken. Another process has just taken that, it was too much for this time, or it
    -- waits for an older one of its session.
    SELECT least(
        (SELECT min(leased_until) FROM engine_commands WHERE leased_until > statement_timestamp()),
        (
            SELECT statement_timestamp() + interval '1 second'
            FROM engine_commands c
            WHERE c.outcome IS NULL AND c.expires_at > statement_timestamp()
                AND (c.leased_until > statement_timestamp()) IS NOT TRUE
                AND c.id NOT IN (SELECT id FROM taken)
            ORDER BY c.seq
            LIMIT 1
        )
    ) AS moment
)
SELECT extract(epoch FROM least(due.moment, min(t.leased_until) OVER ()) - clock_timestamp())::double precision
           AS due_in_seconds,
       t.id, t.session_id, t.action, t.phone, t.created_at, t.expires_at, t.delivery, t.deliveries
FROM due
LEFT JOIN taken t ON true
ORDER BY t.seq
