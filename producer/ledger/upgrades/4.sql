-- What a running attempt holds stands in its own row; the day that pays was always that of its claim.
ALTER TABLE attempts ADD COLUMN held_base INTEGER NOT NULL DEFAULT 0 CHECK (held_base >= 0);
ALTER TABLE attempts ADD COLUMN held_micros INTEGER NOT NULL DEFAULT 0
  CHECK (held_micros >= 0 AND (held_micros = 0 OR state = 'running'));
UPDATE attempts SET held_base = base, held_micros = amount
  FROM holds WHERE holds.attempt = attempts.id AND attempts.state = 'running';
UPDATE budget SET held_micros = (
  SELECT coalesce(sum(attempts.held_micros), 0) FROM attempts
  WHERE state = 'running' AND role = agent_owner AND substr(claimed_at, 1, 10) = date
);
DELETE FROM reservations WHERE attempt NOT IN (SELECT id FROM attempts WHERE state = 'running');
DROP TABLE holds;
