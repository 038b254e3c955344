-- works-with: 1
--
-- One table per cached entity. The four rows of a session are made with it and go with it; removing a value is an
-- UPDATE to NULL. That is what makes versions right: an UPDATE's trigger runs under the lock of its row, so that of two
-- writers the one who commits last also has the higher version. An INSERT's trigger runs before there is a lock.
--
-- Lock order, for every writer that touches more than one row of a session: first its row in sessions, then those in
-- session_status, session_qr, session_credential, in this order.
--
-- Triggers are ENABLE ALWAYS: a change that comes by logical replication needs a version of this database, too. Such
-- changes are applied with an empty search_path, hence SET search_path FROM CURRENT on each function (the migration's
-- search_path is the one schema in which it runs).

-- CACHE 1: with any other value each connection would draw from numbers of its own, and versions would not be in order.
CREATE SEQUENCE record_version AS bigint CACHE 1;

CREATE FUNCTION stamp_record_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    -- A version that was seen must not come back with other content after a crash.
    PERFORM set_config('synchronous_commit', 'on', true);
    NEW.version := nextval('record_version');
    RETURN NEW;
END
$$;

CREATE TABLE control_settings (
    the_only_row boolean PRIMARY KEY DEFAULT true CHECK (the_only_row),
    cache_mode text NOT NULL DEFAULT 'normal' CHECK (cache_mode IN ('normal', 'bypass')),
    -- Entries of another epoch are void.
    epoch bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) CHECK (octet_length(epoch) = 16)
);

INSERT INTO control_settings DEFAULT VALUES;

CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    version bigint NOT NULL,
    -- Bytes decide order and equality, whatever the database's locale.
    name text COLLATE "C" NOT NULL,
    key_hash bytea NOT NULL,
    proxy_url text,
    proxy_password text,
    webhook_url text,
    webhook_events text[],
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT sessions_name_unique UNIQUE (name),
    CONSTRAINT sessions_key_hash_unique UNIQUE (key_hash),
    CONSTRAINT sessions_name_format CHECK (name ~ '^[A-Za-z0-9._-]{3,50}$'),
    CONSTRAINT sessions_name_is_no_id CHECK (name !~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'),
    CONSTRAINT sessions_key_hash_is_sha256 CHECK (octet_length(key_hash) = 32),
    CONSTRAINT sessions_proxy_password_has_url CHECK (proxy_password IS NULL OR proxy_url IS NOT NULL),
    CONSTRAINT sessions_webhook_whole CHECK ((webhook_url IS NULL) = (webhook_events IS NULL))
);

CREATE INDEX sessions_in_order_of_making ON sessions (created_at, id);

CREATE TABLE session_status (
    session_id uuid PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    status text NOT NULL DEFAULT 'disconnected',
    desired_status text NOT NULL DEFAULT 'disconnected',
    reason text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT session_status_known CHECK (status IN ('disconnected', 'connecting', 'connected', 'error')),
    CONSTRAINT session_status_desired_known
        CHECK (desired_status IN ('disconnected', 'connecting', 'connected', 'error'))
);

CREATE INDEX session_status_by_status ON session_status (status);

-- These rows are updated all the time: room on the page lets the new version stay beside the old one (HOT).
CREATE TABLE session_qr (
    session_id uuid PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    code text,
    expires_at timestamptz,
    CONSTRAINT session_qr_whole CHECK ((code IS NULL) = (expires_at IS NULL))
) WITH (fillfactor = 70);

CREATE TABLE session_credential (
    session_id uuid PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    device_jid text COLLATE "C",
    paired_at timestamptz,
    CONSTRAINT session_credential_device_unique UNIQUE (device_jid),
    CONSTRAINT session_credential_whole CHECK ((device_jid IS NULL) = (paired_at IS NULL))
);

CREATE TRIGGER stamp_version BEFORE INSERT OR UPDATE ON sessions
    FOR EACH ROW EXECUTE FUNCTION stamp_record_version();
CREATE TRIGGER stamp_version BEFORE INSERT OR UPDATE ON session_status
    FOR EACH ROW EXECUTE FUNCTION stamp_record_version();
CREATE TRIGGER stamp_version BEFORE INSERT OR UPDATE ON session_qr
    FOR EACH ROW EXECUTE FUNCTION stamp_record_version();
CREATE TRIGGER stamp_version BEFORE INSERT OR UPDATE ON session_credential
    FOR EACH ROW EXECUTE FUNCTION stamp_record_version();

-- The service inserts all four rows by one statement; for any other writer this makes those that are missing.
CREATE FUNCTION complete_session() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO session_status (session_id)
        SELECT NEW.id WHERE NOT EXISTS (SELECT FROM session_status WHERE session_id = NEW.id);
    INSERT INTO session_qr (session_id)
        SELECT NEW.id WHERE NOT EXISTS (SELECT FROM session_qr WHERE session_id = NEW.id);
    INSERT INTO session_credential (session_id)
        SELECT NEW.id WHERE NOT EXISTS (SELECT FROM session_credential WHERE session_id = NEW.id);
    RETURN NULL;
END
$$;

-- Not ALWAYS: where sessions come by replication, their other rows come as well.
CREATE TRIGGER complete_session AFTER INSERT ON sessions
    FOR EACH ROW EXECUTE FUNCTION complete_session();

-- A row of a living session is never deleted alone. During a cascade the session's row is already out of sight.
CREATE FUNCTION refuse_lone_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    IF EXISTS (SELECT FROM sessions WHERE id = OLD.session_id) THEN
        RAISE EXCEPTION 'rows of % go with their session; to remove a value, set it to NULL', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER refuse_lone_delete BEFORE DELETE ON session_status
    FOR EACH ROW EXECUTE FUNCTION refuse_lone_delete();
CREATE TRIGGER refuse_lone_delete BEFORE DELETE ON session_qr
    FOR EACH ROW EXECUTE FUNCTION refuse_lone_delete();
CREATE TRIGGER refuse_lone_delete BEFORE DELETE ON session_credential
    FOR EACH ROW EXECUTE FUNCTION refuse_lone_delete();

-- TRUNCATE runs no row triggers, so no version tells of it: all that is cached becomes void. Sessions that are still
-- there get their rows back, empty.
CREATE FUNCTION void_cache_after_truncate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    INSERT INTO control_settings DEFAULT VALUES
        ON CONFLICT (the_only_row) DO UPDATE SET epoch = excluded.epoch;
    INSERT INTO session_status (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    INSERT INTO session_qr (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    INSERT INTO session_credential (session_id) SELECT id FROM sessions ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER void_cache AFTER TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION void_cache_after_truncate();
CREATE TRIGGER void_cache AFTER TRUNCATE ON session_status
    FOR EACH STATEMENT EXECUTE FUNCTION void_cache_after_truncate();
CREATE TRIGGER void_cache AFTER TRUNCATE ON session_qr
    FOR EACH STATEMENT EXECUTE FUNCTION void_cache_after_truncate();
CREATE TRIGGER void_cache AFTER TRUNCATE ON session_credential
    FOR EACH STATEMENT EXECUTE FUNCTION void_cache_after_truncate();

ALTER TABLE sessions ENABLE ALWAYS TRIGGER stamp_version;
ALTER TABLE session_status ENABLE ALWAYS TRIGGER stamp_version;
ALTER TABLE session_qr ENABLE ALWAYS TRIGGER stamp_version;
ALTER TABLE session_credential ENABLE ALWAYS TRIGGER stamp_version;
ALTER TABLE sessions ENABLE ALWAYS TRIGGER void_cache;
ALTER TABLE session_status ENABLE ALWAYS TRIGGER void_cache;
ALTER TABLE session_qr ENABLE ALWAYS TRIGGER void_cache;
ALTER TABLE session_credential ENABLE ALWAYS TRIGGER void_cache;
