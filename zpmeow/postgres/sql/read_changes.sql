-- now() is before the snapshot: it is the time at which the first message of this statement came. statement_timestamp()
-- is set anew when the statement runs, after the snapshot was taken.
--
-- Lines that are visible now and were not in an earlier snapshot: of the transactions that ran then ($1, its xip), and
-- of those that came later ($2, its xmax). Beyond the line ($3, $4), at most $5. Without any line, one row all the same.
SELECT
    now.snapshot, now.read_at, now.pruned_txid,
    line.txid, line.seq, line.nonce, line.entity, line.key, line.version
FROM (
    SELECT
        pg_current_snapshot() AS snapshot,
        now() AS read_at,
        pruned_txid() AS pruned_txid
) AS now
LEFT JOIN (
    (
        SELECT l.* FROM change_log AS l
        WHERE l.txid = ANY ($1::xid8[]) AND (l.txid, l.seq) > ($3::xid8, $4::bigint)
        ORDER BY l.txid, l.seq
        LIMIT $5
    )
    UNION ALL
    (
        SELECT l.* FROM change_log AS l
        WHERE l.txid >= $2::xid8 AND l.txid < pg_snapshot_xmax(pg_current_snapshot()) AND (l.txid, l.seq) > ($3::xid8, $4::bigint)
        ORDER BY l.txid, l.seq
        LIMIT $5
    )
    ORDER BY txid, seq
    LIMIT $5
) AS line ON true
ORDER BY line.txid, line.seq
