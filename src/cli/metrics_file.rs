//! `--metrics-file`: what a run leaves for the textfile collector of node_exporter.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::{Failure, complain};
use crate::config::Config;
use crate::destination::View;
use crate::exit::Exit;
use crate::page::ResourceId;
use crate::sync::SyncReport;
use crate::web::metrics::{LastRun, Stored, of_run};

/// Where the result of a run goes as metrics.
#[derive(Debug, Args)]
pub(super) struct MetricsFile {
    /// Write the result as metrics, for the textfile collector of node_exporter (which reads *.prom)
    #[arg(long, value_name = "PATH")]
    metrics_file: Option<PathBuf>,
}

impl MetricsFile {
    /// Writes what became of a run over these resources. Returns what the process is to exit with if that cannot be done:
    /// the data is as it is, but who waits for the metrics would take the old ones for new.
    pub(super) async fn write(
        &self,
        ids: &[ResourceId],
        ended: Result<&SyncReport, &Failure>,
        config: &Config,
    ) -> Option<Exit> {
        let path = self.metrics_file.as_deref()?;
        let run = LastRun { ids, ended: Timestamp::now(), report: ended.map_err(|failure| failure.exit) };
        let stored = stored(&config.destination.path).await;
        let error = replace(path, &of_run(run, stored.as_ref())).err()?;
        complain(&format!("error: write the metrics to {}: {error}", path.display()));
        Some(Exit::Storage)
    }
}

/// What the file knows, if it can be read: what kept the run from it has been told already.
async fn stored(database: &Path) -> Option<Stored> {
    let looked = async { Stored::of(&View::open(database).await?).await };
    looked.await.inspect_err(|error| tracing::debug!(%error, "look at the database for the metrics")).ok()
}

/// Puts a text in the place of a file, readable by all. A reader sees the one or the other as a whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    written().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}
