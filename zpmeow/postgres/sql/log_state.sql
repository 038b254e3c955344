-- Which log this is: the cluster, its timeline (another one after each failover), the database; the epoch; the newest
-- line.
SELECT
    (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
    (SELECT oid FROM pg_database WHERE datname = current_database()) AS database_oid,
    c.epoch, c.epoch_snapshot,
    newest.txid, newest.seq, newest.nonce,
    pruned_txid() AS pruned_txid,
    clock_timestamp() AS read_at
FROM control_settings AS c
LEFT JOIN (
    SELECT txid, seq, nonce FROM change_log
    WHERE txid < pg_snapshot_xmax(pg_current_snapshot())
    ORDER BY txid DESC, seq DESC
    LIMIT 1
) AS newest ON true
