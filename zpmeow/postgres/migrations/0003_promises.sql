-- works-with: 1
--
-- A status can be a promise with an end: after valid_until, without a new report, it reads as error, engine_silent. Readers
-- go by the moment itself; a sweep writes down what has ended.

ALTER TABLE session_status ADD COLUMN valid_until timestamptz;

-- For the sweep, which asks every second.
CREATE INDEX session_status_promises ON session_status (valid_until) WHERE valid_until IS NOT NULL;
CREATE INDEX session_status_by_desired_status ON session_status (desired_status);

-- A promise is of the status that it was made with. Whoever changes the status and says nothing of a promise (psql, code of
-- an earlier release) ends it.
CREATE FUNCTION end_promise_of_another_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    NEW.valid_until := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER end_promise BEFORE UPDATE ON session_status
    FOR EACH ROW
    WHEN (NEW.status <> OLD.status AND NEW.valid_until = OLD.valid_until)
    EXECUTE FUNCTION end_promise_of_another_status();
