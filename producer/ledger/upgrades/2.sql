-- Signed checkpoints of the chain: see producer/ledger/checkpoints.py.
CREATE TABLE checkpoints (
  size     INTEGER PRIMARY KEY,                          -- rows that it covers
  note     TEXT NOT NULL,                                -- the signed note
  frontier BLOB NOT NULL                                 -- the Merkle tree's frontier, to go on from
) STRICT;
CREATE TRIGGER checkpoints_are_append_only BEFORE INSERT ON checkpoints
  WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM checkpoints)
  BEGIN SELECT raise(ABORT, 'checkpoints: only a later one may be added'); END;
CREATE TRIGGER checkpoints_are_never_updated BEFORE UPDATE ON checkpoints
  BEGIN SELECT raise(ABORT, 'checkpoints: they are never changed'); END;
CREATE TRIGGER checkpoints_are_never_deleted BEFORE DELETE ON checkpoints
  BEGIN SELECT raise(ABORT, 'checkpoints: they are never deleted'); END;
