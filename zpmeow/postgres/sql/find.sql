-- All asked-for records of a session, from one moment.
SELECT {columns}
FROM {tables}
WHERE {reference}
