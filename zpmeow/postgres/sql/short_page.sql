-- The page inside, of which the planner knows that it is short, so that it is not planned anew each time (ADR 0028).
SELECT * FROM (
{page}
) AS page
ORDER BY created_at, id
LIMIT $1
