-- All asked-for records of a session, or of several, from one moment.
SELECT {columns}
FROM {tables}
WHERE {reference}
