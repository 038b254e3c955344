-- works-with: 1
--
-- Beside the code to scan, the code to enter on a telephone; and what keeps codes in order that overtake each other on their
-- way here.

ALTER TABLE session_qr
    ADD COLUMN pairing_code text,
    ADD COLUMN pairing_expires_at timestamptz,
    -- When its engine made the newest code, by the engine's clock, if it says so; and until when that counts: as long as
    -- the code lives, dropped or not, so that no clock that was wrong once keeps codes out for longer.
    ADD COLUMN issued_at timestamptz,
    ADD COLUMN order_kept_until timestamptz,
    ADD CONSTRAINT session_qr_pairing_whole CHECK ((pairing_code IS NULL) = (pairing_expires_at IS NULL)),
    ADD CONSTRAINT session_qr_order_whole CHECK ((issued_at IS NULL) = (order_kept_until IS NULL));
