-- What was lent to an engine ($1) and never reached it ($2: the commands' ids) is free again at once, and not counted as
-- delivered. What has been lent to it anew since ($3: the delivery that got lost) is another matter.
WITH released AS (
    UPDATE engine_commands
    SET leased_until = NULL, deliveries = deliveries - 1
    WHERE id = ANY ($2::uuid[]) AND leased_to = $1 AND delivery <= $3 AND leased_until IS NOT NULL
    RETURNING id
)
SELECT count(*) AS released, CASE WHEN count(*) > 0 THEN pg_notify('zpmeow_changes', 'command::0') END AS told
FROM released
