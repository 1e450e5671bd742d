//! The `_hw_` tables: what was run, what came, where to go on. They are public; docs/contract.md describes them.

macro_rules! runs {
    () => {
        r"
CREATE TABLE _hw_runs (
  run_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('sync', 'backfill', 'scheduled', 'retry')),
  source TEXT NOT NULL, resource TEXT NOT NULL, pass_id INTEGER NOT NULL,
  started_at TEXT NOT NULL, ended_at TEXT,
  outcome TEXT NOT NULL CHECK (outcome IN ('running', 'complete', 'incomplete', 'failed')),
  stop_reason TEXT,
  requests INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0,
  received INTEGER NOT NULL DEFAULT 0, inserted INTEGER NOT NULL DEFAULT 0, updated INTEGER NOT NULL DEFAULT 0,
  unchanged INTEGER NOT NULL DEFAULT 0, filtered INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0, error TEXT,
  CHECK (received = inserted + updated + unchanged + filtered + quarantined)) STRICT;
"
    };
}

/// The table of the runs: its CHECK has grown, so files of earlier versions get it anew.
pub(super) const RUNS: &str = runs!();

/// Tables of the bookkeeping.
pub(super) const SCHEMA: &str = concat!(
    r#"
CREATE TABLE _hw_meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE _hw_resources (
  source TEXT NOT NULL, resource TEXT NOT NULL, "table" TEXT NOT NULL UNIQUE COLLATE NOCASE,
  identity TEXT, decided TEXT, first_seen_at TEXT NOT NULL,
  pass_id INTEGER, pass_state TEXT CHECK (pass_state IN ('open', 'complete', 'over')), pass_fingerprint TEXT,
  run_id INTEGER, rows INTEGER NOT NULL DEFAULT 0, next_rows INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (source, resource)) STRICT;
CREATE TABLE _hw_checkpoints (
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'reading', 'complete', 'abandoned', 'unsorted')),
  position TEXT, cursor TEXT, cursor_seen TEXT, bounds TEXT, boundary_from ANY,
  parent_fields TEXT, parent_page_id INTEGER, queued INTEGER NOT NULL, pass_id INTEGER NOT NULL, read_id INTEGER,
  run_id INTEGER, run_page_id INTEGER, run_cursor TEXT, run_boundary_from ANY, run_read_id INTEGER,
  read_open INTEGER NOT NULL DEFAULT 0 CHECK (read_open IN (0, 1)),
  request_fingerprint TEXT NOT NULL DEFAULT '', error TEXT, updated_at TEXT NOT NULL,
  PRIMARY KEY (source, resource, partition)) STRICT;
CREATE INDEX _hw_checkpoints_queue ON _hw_checkpoints (source, resource, queued);
CREATE TABLE _hw_boundary (
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL, hash BLOB NOT NULL, sort ANY NOT NULL,
  page_id INTEGER NOT NULL, PRIMARY KEY (source, resource, partition, hash)) STRICT, WITHOUT ROWID;
CREATE TABLE _hw_coverage (
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL,
  from_value TEXT, from_sort ANY, to_value TEXT NOT NULL, to_sort ANY NOT NULL,
  run_id INTEGER NOT NULL, covered_at TEXT NOT NULL, PRIMARY KEY (source, resource, partition, to_sort, run_id)) STRICT;
"#,
    runs!(),
    r#"
CREATE TABLE _hw_pages (
  page_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, run_id INTEGER NOT NULL, read_id INTEGER NOT NULL,
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL, position TEXT NOT NULL,
  url TEXT NOT NULL, status INTEGER NOT NULL, fetched_at TEXT NOT NULL, duration_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL, attempts INTEGER NOT NULL,
  received INTEGER NOT NULL, inserted INTEGER NOT NULL, updated INTEGER NOT NULL, unchanged INTEGER NOT NULL,
  filtered INTEGER NOT NULL, quarantined INTEGER NOT NULL,
  CHECK (received = inserted + updated + unchanged + filtered + quarantined)) STRICT;
CREATE INDEX _hw_pages_of_read ON _hw_pages (read_id);
CREATE TABLE _hw_columns (
  "table" TEXT NOT NULL COLLATE NOCASE, "column" TEXT NOT NULL COLLATE NOCASE, source_key TEXT NOT NULL, type TEXT NOT NULL,
  first_page_id INTEGER NOT NULL, PRIMARY KEY ("table", "column")) STRICT;
CREATE TABLE _hw_quarantine (
  quarantine_id INTEGER PRIMARY KEY NOT NULL, page_id INTEGER NOT NULL, source TEXT NOT NULL, resource TEXT NOT NULL,
  reason TEXT NOT NULL, record TEXT NOT NULL, is_row INTEGER NOT NULL DEFAULT 0, retried_page_id INTEGER) STRICT;
CREATE TABLE _hw_budgets (
  budget TEXT PRIMARY KEY NOT NULL, tat_ms INTEGER NOT NULL, not_before_ms INTEGER NOT NULL,
  updated_at TEXT NOT NULL) STRICT;
"#
);

/// What files of earlier versions do not have.
pub(super) const ADDED: &str = "
CREATE TABLE IF NOT EXISTS _hw_validators (
  source TEXT NOT NULL, resource TEXT NOT NULL, partition TEXT NOT NULL,
  read_id INTEGER NOT NULL, page_id INTEGER NOT NULL, url TEXT NOT NULL, fingerprint TEXT NOT NULL,
  etag TEXT, last_modified TEXT, stop_reason TEXT NOT NULL, rows INTEGER NOT NULL, stored_at TEXT NOT NULL,
  CHECK (etag IS NOT NULL OR last_modified IS NOT NULL),
  PRIMARY KEY (source, resource, partition)) STRICT;
CREATE TABLE IF NOT EXISTS _hw_paused (
  source TEXT NOT NULL, resource TEXT NOT NULL, paused_at TEXT NOT NULL,
  PRIMARY KEY (source, resource)) STRICT;
CREATE TABLE IF NOT EXISTS _hw_minutes (
  source TEXT NOT NULL, resource TEXT NOT NULL, minute INTEGER NOT NULL, records INTEGER NOT NULL,
  PRIMARY KEY (source, resource, minute)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS _hw_runs_succeeded ON _hw_runs (source, resource, run_id)
  WHERE outcome = 'complete' AND kind IN ('sync', 'scheduled');
DROP INDEX IF EXISTS _hw_runs_of_resource;
CREATE INDEX IF NOT EXISTS _hw_runs_in_short
  ON _hw_runs (source, resource, run_id, kind, outcome, started_at, ended_at, received);
CREATE INDEX IF NOT EXISTS _hw_runs_failed ON _hw_runs (run_id) WHERE outcome = 'failed';
CREATE INDEX IF NOT EXISTS _hw_runs_running ON _hw_runs (run_id) WHERE outcome = 'running';
CREATE INDEX IF NOT EXISTS _hw_pages_of_run ON _hw_pages (run_id);
CREATE INDEX IF NOT EXISTS _hw_checkpoints_failed ON _hw_checkpoints (source, resource) WHERE error IS NOT NULL;
DROP INDEX IF EXISTS _hw_runs_complete;
DROP INDEX IF EXISTS _hw_quarantine_of_resource;
CREATE INDEX IF NOT EXISTS _hw_quarantine_of_page ON _hw_quarantine (page_id);
CREATE INDEX IF NOT EXISTS _hw_quarantine_left ON _hw_quarantine (source, resource) WHERE retried_page_id IS NULL;
";

/// What is made last of it, so that everything is there where this is.
pub(super) const ADDED_LAST: &str = "_hw_quarantine_left";
