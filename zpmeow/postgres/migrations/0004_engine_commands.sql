-- works-with: 1
--
-- Commands for engines: what they must do so that a wish comes true. Left in the transaction of the change that they stand
-- for, lent to one engine at a time, ended by its acknowledgement.
--
-- Of one session they are left under the lock of its row (or after it, by the trigger of its removal), so that seq is the
-- order in which they became visible, too.

CREATE SEQUENCE engine_command_delivery AS bigint;

CREATE TABLE engine_commands (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- No reference: the command to delete outlives its session.
    session_id uuid NOT NULL,
    action text NOT NULL,
    phone text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    -- The engine that has it, until when, and the number of that delivery; how often it was delivered.
    leased_to uuid,
    leased_until timestamptz,
    delivery bigint,
    deliveries int NOT NULL DEFAULT 0,
    -- How it ended. One that is withdrawn while an engine has it stays lent until the engine has answered, or its time is
    -- over: until then no other command of the session goes to anybody.
    outcome text,
    error text,
    ended_at timestamptz,
    CONSTRAINT engine_commands_action_known CHECK (action IN ('connect', 'disconnect', 'pair', 'delete')),
    CONSTRAINT engine_commands_phone_is_for_pairing CHECK (phone IS NULL OR action = 'pair'),
    CONSTRAINT engine_commands_outcome_known CHECK (outcome IN ('done', 'failed', 'withdrawn')),
    CONSTRAINT engine_commands_ended_whole CHECK ((outcome IS NULL) = (ended_at IS NULL))
);

-- In the order of delivery; of one session; by when leases end. The conditions are those of the statements.
CREATE INDEX engine_commands_open ON engine_commands (seq) WHERE outcome IS NULL;
CREATE INDEX engine_commands_leases ON engine_commands (leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX engine_commands_live ON engine_commands (session_id, seq)
    WHERE outcome IS NULL OR leased_until IS NOT NULL;
CREATE INDEX engine_commands_by_age ON engine_commands (created_at);

-- Which engine has a session: the one that took its last command to connect or to pair, until that is not wished any more.
-- Locked after the session's commands, by everybody.
CREATE TABLE engine_holdings (
    session_id uuid PRIMARY KEY,
    engine uuid NOT NULL
);

-- Leaves a command, and withdraws those that it makes pointless. One that says the same and waits for an engine is kept
-- instead, as if it had been left now; one that an engine has is not enough: it may fail. The caller holds the lock of the
-- session's row, or has deleted it.
CREATE FUNCTION leave_command(for_session uuid, wanted text, wanted_phone text) RETURNS void
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
DECLARE
    -- A telephone call's patience for pairing. The others hold as long as the wish, and are kept as long as engines may
    -- take to come back from the worst night.
    lifetime CONSTANT interval := CASE wanted WHEN 'pair' THEN interval '2 minutes' ELSE interval '24 hours' END;
    pointless CONSTANT text[] := CASE wanted WHEN 'connect' THEN ARRAY['disconnect']
                                             WHEN 'disconnect' THEN ARRAY['connect', 'pair']
                                             WHEN 'pair' THEN ARRAY['disconnect', 'pair']
                                             ELSE ARRAY['connect', 'disconnect', 'pair'] END;
BEGIN
    PERFORM commit_durably();
    UPDATE engine_commands
    SET outcome = 'withdrawn', ended_at = clock_timestamp(), phone = NULL
    WHERE session_id = for_session AND outcome IS NULL AND action = ANY (pointless);
    IF wanted IN ('disconnect', 'delete') THEN
        DELETE FROM engine_holdings WHERE session_id = for_session;
    END IF;
    UPDATE engine_commands
    SET expires_at = clock_timestamp() + lifetime
    WHERE session_id = for_session AND outcome IS NULL AND action = wanted
        AND expires_at > clock_timestamp() AND (leased_until > clock_timestamp()) IS NOT TRUE;
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO engine_commands (session_id, action, phone, expires_at)
    VALUES (for_session, wanted, wanted_phone, clock_timestamp() + lifetime);
    PERFORM pg_notify('zpmeow_changes', 'command::0');
END
$$;

-- Whoever deletes a session, its engine is told.
CREATE FUNCTION leave_delete_commands() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM leave_command(id, 'delete', NULL) FROM old_rows;
    RETURN NULL;
END
$$;

CREATE TRIGGER leave_delete_commands AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leave_delete_commands();
