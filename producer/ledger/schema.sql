-- The ledger. Money is in whole micro-US-dollars; the *_usd columns are generated, for people and for tools that read
-- 0.3.x names; json_extract and not ->>, so that SQLite 3.37 can read the file. Times are ISO 8601 in UTC; not_before and
-- until are seconds since the epoch, because they are compared.

CREATE TABLE tasks (
  seq               INTEGER PRIMARY KEY AUTOINCREMENT,   -- age: the order of insertion
  id                TEXT NOT NULL UNIQUE,
  agent_owner       TEXT NOT NULL,
  status            TEXT NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'in_progress', 'done', 'failed', 'escalated', 'killed')),
  title             TEXT NOT NULL,
  description       TEXT NOT NULL,
  parent_task_id    TEXT,
  caused_by_task_id TEXT,
  root_task_id      TEXT NOT NULL,                       -- lineage: the task that nobody's agent filed
  depth             INTEGER NOT NULL DEFAULT 0,          -- generations below the root
  filed_by_attempt  TEXT,
  dependencies      TEXT NOT NULL DEFAULT '[]',
  payload           TEXT NOT NULL DEFAULT '{}',
  output_refs       TEXT NOT NULL DEFAULT '[]',
  priority          INTEGER NOT NULL DEFAULT 3 CHECK (priority BETWEEN 0 AND 5),
  sprint_id         TEXT,
  created_at        TEXT NOT NULL,
  started_at        TEXT,
  finished_at       TEXT,
  retry_count       INTEGER NOT NULL DEFAULT 0,
  escalation_reason TEXT,
  open_dependencies INTEGER NOT NULL DEFAULT 0,          -- dependencies that are not done
  not_before        REAL,
  requires_approval INTEGER NOT NULL DEFAULT 0,
  attempts          INTEGER NOT NULL DEFAULT 0,
  session_id        TEXT,
  result            TEXT,
  cost_micros       INTEGER NOT NULL DEFAULT 0 CHECK (cost_micros >= 0),
  actual_micros     INTEGER,                             -- as the invoker reported it
  config_isolation  TEXT,
  cost_usd          REAL GENERATED ALWAYS AS (cost_micros / 1000000.0) VIRTUAL,
  actual_cost_usd   REAL GENERATED ALWAYS AS (actual_micros / 1000000.0) VIRTUAL
) STRICT;
CREATE INDEX tasks_ready ON tasks (agent_owner, priority, seq)
  WHERE status = 'pending' AND open_dependencies = 0 AND not_before IS NULL AND requires_approval = 0;
CREATE INDEX tasks_due ON tasks (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX tasks_status ON tasks (status, agent_owner);
CREATE INDEX tasks_root ON tasks (root_task_id);
CREATE INDEX tasks_parent ON tasks (parent_task_id) WHERE parent_task_id IS NOT NULL;
CREATE INDEX tasks_filed ON tasks (filed_by_attempt) WHERE filed_by_attempt IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE dependency (
  task       TEXT NOT NULL,
  depends_on TEXT NOT NULL,
  PRIMARY KEY (task, depends_on)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_on ON dependency (depends_on);

-- What a running attempt holds, which is what it may still cost: held_base is what is left of its claim's reservation,
-- held_micros the greater of that and its open reservations; it is part of budget.held_micros of the day of the claim.
CREATE TABLE attempts (
  id          TEXT PRIMARY KEY,
  task_id     TEXT NOT NULL,
  role        TEXT NOT NULL,
  number      INTEGER NOT NULL,
  worker      TEXT NOT NULL,
  state       TEXT NOT NULL DEFAULT 'running'
              CHECK (state IN ('running', 'succeeded', 'failed', 'lost', 'cancelled', 'throttled')),
  outcome     TEXT,
  model       TEXT,
  session_id  TEXT,
  resumed     INTEGER NOT NULL DEFAULT 0,
  cancel      TEXT,                                      -- why it is being stopped, once somebody asked
  claimed_at  TEXT NOT NULL,
  started_at  TEXT,
  finished_at TEXT,
  turns       INTEGER NOT NULL DEFAULT 0,
  tool_calls  INTEGER NOT NULL DEFAULT 0,
  error       TEXT,
  cost_micros INTEGER NOT NULL DEFAULT 0,
  cost_usd    REAL GENERATED ALWAYS AS (cost_micros / 1000000.0) VIRTUAL,
  held_base   INTEGER NOT NULL DEFAULT 0 CHECK (held_base >= 0),
  held_micros INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0 AND (held_micros = 0 OR state = 'running'))
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_task ON attempts (task_id, number);
CREATE INDEX attempts_running ON attempts (worker) WHERE state = 'running';
CREATE INDEX attempts_failed ON attempts (finished_at) WHERE state IN ('failed', 'lost');

-- Model requests under way, with the most that each was allowed to cost.
CREATE TABLE reservations (
  request TEXT PRIMARY KEY,
  attempt TEXT NOT NULL,
  amount  INTEGER NOT NULL CHECK (amount >= 0)
) STRICT, WITHOUT ROWID;

-- Answers to ledger calls of running attempts: a call that is asked again, of a new supervisor, is not done twice.
CREATE TABLE replies (
  call    TEXT PRIMARY KEY,
  attempt TEXT NOT NULL,
  reply   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_attempt ON replies (attempt);

-- Every cost ever booked, once, by request.
CREATE TABLE meter (
  request              TEXT PRIMARY KEY,
  attempt              TEXT NOT NULL,
  task_id              TEXT NOT NULL,
  role                 TEXT NOT NULL,
  date                 TEXT NOT NULL,
  at                   TEXT NOT NULL,
  model                TEXT NOT NULL,
  source               TEXT NOT NULL,                    -- gateway, invoker, transcript or hold
  exact                INTEGER NOT NULL,
  input_tokens         INTEGER NOT NULL DEFAULT 0,
  output_tokens        INTEGER NOT NULL DEFAULT 0,
  cache_read_tokens    INTEGER NOT NULL DEFAULT 0,
  cache_write_5m_tokens INTEGER NOT NULL DEFAULT 0,
  cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0,
  web_searches         INTEGER NOT NULL DEFAULT 0,
  cost_micros          INTEGER NOT NULL CHECK (cost_micros >= 0)
) STRICT, WITHOUT ROWID;
CREATE INDEX meter_attempt ON meter (attempt);
CREATE INDEX meter_date ON meter (date, role);

CREATE TABLE budget (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_owner     TEXT NOT NULL,
  date            TEXT NOT NULL,
  spent_micros    INTEGER NOT NULL DEFAULT 0 CHECK (spent_micros >= 0),
  held_micros     INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
  hard_cap_micros INTEGER NOT NULL DEFAULT 0,
  soft_cap_micros INTEGER NOT NULL DEFAULT 0,
  soft_warned     INTEGER NOT NULL DEFAULT 0,
  spent_usd       REAL GENERATED ALWAYS AS (spent_micros / 1000000.0) VIRTUAL,
  held_usd        REAL GENERATED ALWAYS AS (held_micros / 1000000.0) VIRTUAL,
  hard_cap_usd    REAL GENERATED ALWAYS AS (hard_cap_micros / 1000000.0) VIRTUAL,
  soft_cap_usd    REAL GENERATED ALWAYS AS (soft_cap_micros / 1000000.0) VIRTUAL,
  UNIQUE (agent_owner, date)
) STRICT;
CREATE INDEX budget_date ON budget (date, agent_owner);

CREATE TABLE decisions (
  id            TEXT PRIMARY KEY,
  task_id       TEXT,
  agent_owner   TEXT NOT NULL,
  kind          TEXT NOT NULL,
  decision_text TEXT NOT NULL,
  rationale     TEXT NOT NULL,
  artifact      TEXT,
  made_at       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX decisions_task ON decisions (task_id);

CREATE TABLE asset_registry (
  id                 TEXT PRIMARY KEY,
  asset_type         TEXT NOT NULL CHECK (asset_type IN ('art', 'audio', 'content', 'other')),
  path               TEXT NOT NULL UNIQUE,
  prompt             TEXT,
  seed               TEXT,
  api                TEXT,
  model              TEXT,
  model_version      TEXT,
  retry_count        INTEGER NOT NULL DEFAULT 0,
  critic_verdicts    TEXT NOT NULL DEFAULT '[]',
  cost_micros        INTEGER NOT NULL DEFAULT 0,
  wall_clock_seconds REAL NOT NULL DEFAULT 0,
  agent_id           TEXT NOT NULL,
  task_id            TEXT,
  sha256             TEXT,
  timestamp          TEXT NOT NULL,
  disposition        TEXT NOT NULL DEFAULT 'shipped'
                     CHECK (disposition IN ('shipped', 'escalated', 'killed', 'pending_qa')),
  cost_usd           REAL GENERATED ALWAYS AS (cost_micros / 1000000.0) VIRTUAL
) STRICT;
CREATE INDEX asset_timestamp ON asset_registry (timestamp);

CREATE TABLE prompts (
  hash          TEXT PRIMARY KEY,
  system_prompt TEXT,
  user_prompt   TEXT,
  tools_json    TEXT,
  first_seen    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a role is doing and how many workers it should have. `*` is the project.
CREATE TABLE roles (
  role     TEXT PRIMARY KEY,
  desired  INTEGER NOT NULL DEFAULT 1,
  state    TEXT NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'throttled', 'capped', 'failed', 'draining')),
  until    REAL,
  reason   TEXT,
  needed   INTEGER NOT NULL DEFAULT 0,                   -- capped: the room that lifts it
  declared INTEGER NOT NULL DEFAULT 1                    -- is in producer.yaml
) STRICT, WITHOUT ROWID;

-- What has to be told to the world outside the ledger: files to write, pushes to send. Committed with its cause.
CREATE TABLE outbox (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,
  body       TEXT NOT NULL,
  created_at TEXT NOT NULL,
  not_before REAL NOT NULL DEFAULT 0,
  tries      INTEGER NOT NULL DEFAULT 0,
  error      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq     INTEGER PRIMARY KEY,
  body    BLOB NOT NULL,
  chain   BLOB NOT NULL,
  action  TEXT GENERATED ALWAYS AS (json_extract(CAST(body AS TEXT), '$.action')) VIRTUAL,
  task_id TEXT GENERATED ALWAYS AS (json_extract(CAST(body AS TEXT), '$.task')) VIRTUAL
) STRICT;
CREATE INDEX audit_action ON audit (action);
CREATE INDEX audit_task ON audit (task_id) WHERE task_id IS NOT NULL;
CREATE TRIGGER audit_is_append_only BEFORE INSERT ON audit
  WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
  BEGIN SELECT raise(ABORT, 'audit: only the next row may be added'); END;
CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit
  BEGIN SELECT raise(ABORT, 'audit: rows are never changed'); END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
  BEGIN SELECT raise(ABORT, 'audit: rows are never deleted'); END;

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

-- The log of a ledger that was taken over from 0.3.x, as it was written there: see producer/ledger/audit_old.py. Closed
-- by the first row of the chain above, which names its head. Not STRICT, so that a row stays what it was.
CREATE TABLE audit_0_3 (
  id          INTEGER PRIMARY KEY,
  agent_owner TEXT,
  task_id     TEXT,
  action      TEXT,
  detail      TEXT,
  cost_usd    REAL,
  timestamp   TEXT,
  prev_hash   TEXT,
  row_hash    TEXT
);
CREATE INDEX audit_0_3_action ON audit_0_3 (action);
CREATE INDEX audit_0_3_task ON audit_0_3 (task_id) WHERE task_id IS NOT NULL;
CREATE TRIGGER audit_0_3_is_closed BEFORE INSERT ON audit_0_3 WHEN EXISTS (SELECT 1 FROM audit)
  BEGIN SELECT raise(ABORT, 'audit_0_3: the log of 0.3 is closed'); END;
CREATE TRIGGER audit_0_3_is_never_updated BEFORE UPDATE ON audit_0_3
  BEGIN SELECT raise(ABORT, 'audit_0_3: rows are never changed'); END;
CREATE TRIGGER audit_0_3_is_never_deleted BEFORE DELETE ON audit_0_3
  BEGIN SELECT raise(ABORT, 'audit_0_3: rows are never deleted'); END;

-- Our chain under the old names; ids go on where the old log ends. ORDER BY seq, not id, uses the indexes.
CREATE VIEW audit_own AS
  SELECT seq,
         seq + (SELECT coalesce(max(id), 0) FROM audit_0_3) AS id,
         json_extract(CAST(body AS TEXT), '$.actor') AS agent_owner,
         task_id,
         action,
         json_extract(CAST(body AS TEXT), '$.detail') AS detail,
         coalesce(json_extract(CAST(body AS TEXT), '$.cost_micros'), 0) / 1000000.0 AS cost_usd,
         json_extract(CAST(body AS TEXT), '$.at') AS timestamp,
         lower(hex(coalesce((SELECT chain FROM audit AS before WHERE before.seq = audit.seq - 1), zeroblob(32))))
           AS prev_hash,
         lower(hex(chain)) AS row_hash
  FROM audit;

CREATE VIEW audit_log AS
  SELECT id, agent_owner, task_id, action, detail, cost_usd, timestamp, prev_hash, row_hash FROM audit_0_3
  UNION ALL
  SELECT id, agent_owner, task_id, action, detail, cost_usd, timestamp, prev_hash, row_hash FROM audit_own;
