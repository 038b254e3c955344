-- works-with: 1
--
-- The change log: one line for each cached entry or look-up that a transaction touched, written by triggers in that
-- transaction, so that a change by psql or by another service is covered like our own. The same triggers NOTIFY.
--
-- How it is read: "what is visible in a snapshot now and was not in the one before" are the lines of transactions that
-- ran at the first snapshot (its xip) or came after it (from its xmax on). That misses nothing, whatever the order in
-- which transactions commit, and waits for nobody's open transaction.

CREATE TABLE change_log (
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- After a restored backup the same (txid, seq) comes again, with another nonce.
    nonce uuid NOT NULL DEFAULT gen_random_uuid(),
    -- session, status, qr, credential: the key is the session's id. name, key: a look-up, by the name or the hash in
    -- hexadecimal digits. epoch: the cache became void.
    entity text NOT NULL,
    key text COLLATE "C" NOT NULL,
    -- Entries below this version are outdated.
    version bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (txid, seq)
-- A table that only grows at one end and is cut off at the other: cleaned by number of rows, not by share.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);

CREATE TABLE change_log_state (
    the_only_row boolean PRIMARY KEY DEFAULT true CHECK (the_only_row),
    -- Lines of this transaction and of earlier ones may have been removed.
    pruned_txid xid8 NOT NULL DEFAULT '0'
);

INSERT INTO change_log_state DEFAULT VALUES;

-- 0 where the row says something that cannot be yet; NULL where there is no row: then anything may have been removed.
CREATE FUNCTION pruned_txid() RETURNS xid8
    LANGUAGE sql
    STABLE
    SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN pruned_txid < pg_snapshot_xmax(pg_current_snapshot()) THEN pruned_txid ELSE '0' END
    FROM change_log_state
$$;

-- Whoever removes lines, the bound tells of it.
CREATE FUNCTION note_pruned_lines() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO change_log_state AS s (pruned_txid)
        SELECT txid FROM old_rows
        WHERE txid < pg_snapshot_xmax(pg_current_snapshot())
        ORDER BY txid DESC
        LIMIT 1
        ON CONFLICT (the_only_row) DO UPDATE SET pruned_txid = excluded.pruned_txid
            WHERE s.pruned_txid < excluded.pruned_txid
                OR s.pruned_txid >= pg_snapshot_xmax(pg_current_snapshot());
    RETURN NULL;
END
$$;

CREATE TRIGGER note_pruned_lines AFTER DELETE ON change_log
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_pruned_lines();
CREATE TRIGGER void_cache AFTER TRUNCATE ON change_log
    FOR EACH STATEMENT EXECUTE FUNCTION void_cache_after_truncate();

-- A version that was seen must not come back with other content after a crash; a commit that is to reach a standby
-- before it is acknowledged keeps that.
CREATE FUNCTION commit_durably() RETURNS void
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION stamp_record_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM commit_durably();
    NEW.version := nextval('record_version');
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION void_cache_after_truncate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM commit_durably();
    INSERT INTO control_settings DEFAULT VALUES
        ON CONFLICT (the_only_row) DO UPDATE SET epoch = excluded.epoch;
    INSERT INTO session_status (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    INSERT INTO session_qr (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    INSERT INTO session_credential (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- By statement, too: three INSERTs for ten thousand sessions, not thirty thousand.
CREATE OR REPLACE FUNCTION complete_session() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO session_status (session_id)
        SELECT id FROM new_rows WHERE NOT EXISTS (SELECT FROM session_status WHERE session_id = id);
    INSERT INTO session_qr (session_id)
        SELECT id FROM new_rows WHERE NOT EXISTS (SELECT FROM session_qr WHERE session_id = id);
    INSERT INTO session_credential (session_id)
        SELECT id FROM new_rows WHERE NOT EXISTS (SELECT FROM session_credential WHERE session_id = id);
    RETURN NULL;
END
$$;

DROP TRIGGER complete_session ON sessions;
CREATE TRIGGER complete_session AFTER INSERT ON sessions
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION complete_session();

-- A payload of NOTIFY is shorter than 8,000 bytes; a line of it has 89 at most ("key", 64 digits, a version), so that
-- 80 lines fit.
CREATE FUNCTION notify_of_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM pg_notify('zpmeow_changes', string_agg(line, ','))
    FROM (
        SELECT entity || ':' || key || ':' || version AS line, (row_number() OVER () - 1) / 80 AS part FROM new_rows
    ) AS numbered
    GROUP BY part;
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_of_changes AFTER INSERT ON change_log
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notify_of_changes();
ALTER TABLE change_log ENABLE ALWAYS TRIGGER notify_of_changes;
ALTER TABLE change_log ENABLE ALWAYS TRIGGER note_pruned_lines;
ALTER TABLE change_log ENABLE ALWAYS TRIGGER void_cache;

-- The triggers of the cached tables work by statement, since one statement can touch thousands of rows. What is applied
-- as a replica (logical replication, session_replication_role) runs row triggers only: for that, and only then, the
-- same functions work by row. A removal draws a version of its own, under the lock of the row that goes.

-- For the tables beside sessions; their entity is the trigger's argument.
CREATE FUNCTION log_record_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM commit_durably();
    IF TG_LEVEL = 'ROW' THEN
        IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND OLD.session_id <> NEW.session_id THEN
            INSERT INTO change_log (entity, key, version)
            VALUES (TG_ARGV[0], OLD.session_id, nextval('record_version'));
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO change_log (entity, key, version) VALUES (TG_ARGV[0], NEW.session_id, NEW.version);
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO change_log (entity, key, version) SELECT TG_ARGV[0], session_id, version FROM new_rows;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO change_log (entity, key, version)
        SELECT TG_ARGV[0], session_id, version FROM new_rows
        UNION ALL
        SELECT TG_ARGV[0], session_id, nextval('record_version')
        FROM old_rows
        WHERE session_id NOT IN (SELECT session_id FROM new_rows);
    ELSE
        INSERT INTO change_log (entity, key, version)
        SELECT TG_ARGV[0], session_id, nextval('record_version') FROM old_rows;
    END IF;
    RETURN NULL;
END
$$;

-- For sessions: the record, and the look-ups that led to it or lead to it now.
CREATE FUNCTION log_session_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM commit_durably();
    IF TG_LEVEL = 'ROW' THEN
        IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
            INSERT INTO change_log (entity, key, version) VALUES ('session', OLD.id, nextval('record_version'));
        END IF;
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO change_log (entity, key, version)
            VALUES ('name', OLD.name, OLD.version), ('key', encode(OLD.key_hash, 'hex'), OLD.version);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO change_log (entity, key, version)
            VALUES ('session', NEW.id, NEW.version),
                   ('name', NEW.name, NEW.version),
                   ('key', encode(NEW.key_hash, 'hex'), NEW.version);
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO change_log (entity, key, version)
        SELECT line.*
        FROM new_rows AS n,
             LATERAL (VALUES ('session', n.id::text, n.version),
                             ('name', n.name, n.version),
                             ('key', encode(n.key_hash, 'hex'), n.version)) AS line;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO change_log (entity, key, version)
        SELECT line.*
        FROM old_rows AS o
        FULL JOIN new_rows AS n ON n.id = o.id,
             LATERAL (VALUES ('session', n.id::text, n.version),
                             ('session', CASE WHEN n.id IS NULL THEN o.id::text END,
                                         CASE WHEN n.id IS NULL THEN nextval('record_version') END),
                             ('name', CASE WHEN o.name IS DISTINCT FROM n.name THEN o.name END, o.version),
                             ('name', CASE WHEN o.name IS DISTINCT FROM n.name THEN n.name END, n.version),
                             ('key', CASE WHEN o.key_hash IS DISTINCT FROM n.key_hash
                                          THEN encode(o.key_hash, 'hex') END, o.version),
                             ('key', CASE WHEN o.key_hash IS DISTINCT FROM n.key_hash
                                          THEN encode(n.key_hash, 'hex') END, n.version)
             ) AS line (entity, key, version)
        WHERE line.key IS NOT NULL;
    ELSE
        INSERT INTO change_log (entity, key, version)
        SELECT line.*
        FROM (SELECT *, nextval('record_version') AS removal_version FROM old_rows) AS o,
             LATERAL (VALUES ('session', o.id::text, o.removal_version),
                             ('name', o.name, o.version),
                             ('key', encode(o.key_hash, 'hex'), o.version)) AS line;
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    found record;
    transition record;
BEGIN
    FOR found IN
        SELECT * FROM (VALUES ('sessions', 'log_session_changes()'),
                              ('session_status', 'log_record_changes(''status'')'),
                              ('session_qr', 'log_record_changes(''qr'')'),
                              ('session_credential', 'log_record_changes(''credential'')')) AS tables (name, call)
    LOOP
        FOR transition IN
            SELECT * FROM (VALUES ('insert', 'NEW TABLE AS new_rows'),
                                  ('update', 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                                  ('delete', 'OLD TABLE AS old_rows')) AS events (name, tables)
        LOOP
            EXECUTE format(
                'CREATE TRIGGER log_%s AFTER %s ON %I REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
                transition.name, upper(transition.name), found.name, transition.tables, found.call
            );
        END LOOP;
        EXECUTE format(
            'CREATE TRIGGER log_replicated AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION %s',
            found.name, found.call
        );
        EXECUTE format('ALTER TABLE %I ENABLE REPLICA TRIGGER log_replicated', found.name);
    END LOOP;
END
$$;

-- The epoch and where the log must be read from in it: from what was not visible yet when it began. Loads that know the
-- epoch begin after its commit, so that they see at least that.
ALTER TABLE control_settings ADD COLUMN epoch_snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot();

CREATE FUNCTION stamp_epoch() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM commit_durably();
    IF TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch THEN
        NEW.epoch_snapshot := pg_current_snapshot();
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION tell_control_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch THEN
        INSERT INTO change_log (entity, key, version) VALUES ('epoch', encode(NEW.epoch, 'hex'), 0);
    ELSE
        PERFORM pg_notify('zpmeow_changes', 'mode:' || NEW.cache_mode || ':0');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER stamp_epoch BEFORE INSERT OR UPDATE ON control_settings
    FOR EACH ROW EXECUTE FUNCTION stamp_epoch();
CREATE TRIGGER tell_control_change AFTER INSERT OR UPDATE ON control_settings
    FOR EACH ROW EXECUTE FUNCTION tell_control_change();
ALTER TABLE control_settings ENABLE ALWAYS TRIGGER stamp_epoch;
ALTER TABLE control_settings ENABLE ALWAYS TRIGGER tell_control_change;

-- The log is never empty: its newest line is what a position is recognised by.
INSERT INTO change_log (entity, key, version) SELECT 'epoch', encode(epoch, 'hex'), 0 FROM control_settings;
