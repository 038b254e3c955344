WITH target AS MATERIALIZED (
    SELECT s.*, c.version AS kept_version, c.device_jid AS kept_jid
    FROM sessions s
    JOIN session_credential c ON c.session_id = s.id
    WHERE {reference}
    FOR NO KEY UPDATE OF s, c
), changed AS (
    UPDATE session_credential
    SET device_jid = NULL, paired_at = NULL
    FROM target
    WHERE session_id = target.id AND kept_jid IS NOT NULL
    RETURNING session_credential.version
)
SELECT {session},
       coalesce(changed.version, kept_version) AS credential_version,
       NULL::text AS device_jid,
       NULL::timestamptz AS paired_at
FROM target s
LEFT JOIN changed ON true
