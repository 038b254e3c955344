-- One portion of the oldest lines: those older than $1 seconds that stand before the first younger one, but for the newest
-- of them: a position is recognised by it. Never a line that an open transaction could still stand before.
WITH portion AS (
    SELECT l.txid, l.seq, bool_or(l.at >= clock_timestamp() - make_interval(secs => $1)) OVER (
        ORDER BY l.txid, l.seq
    ) AS is_young
    FROM change_log AS l
    WHERE l.txid >= coalesce(pruned_txid(), '0')
        AND l.txid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY l.txid, l.seq
    LIMIT $2
), bound AS (
    SELECT txid, seq FROM portion WHERE NOT is_young ORDER BY txid DESC, seq DESC LIMIT 1
), removed AS (
    DELETE FROM change_log AS l
    USING bound
    WHERE (l.txid, l.seq) < (bound.txid, bound.seq)
        AND l.txid >= coalesce(pruned_txid(), '0')
    RETURNING l.seq
)
SELECT count(*) AS removed FROM removed
