use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Daemon, Now, Source};
use crate::config::{Env, load_text};
use crate::destination::{Db, DbError, DestinationOptions};
use crate::notify::Notify;
use crate::page::ResourceId;

/// A daemon with this configuration and a file of its own, and what ends it.
async fn daemon(text: &str) -> (tempfile::TempDir, Arc<Db>, CancellationToken, Daemon<'static>) {
    let loaded = load_text("config.toml", text, &Env::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = DestinationOptions { path: folder.path().join("x.db"), ..Default::default() };
    let db = Arc::new(Db::open(&options).await.unwrap());
    let stop = CancellationToken::new();
    let source = Box::leak(Box::new(Source::new("config.toml".into(), Env::default(), false)));
    let notify = Box::leak(Box::new(Notify::from_env()));
    let daemon = Daemon::new(source, loaded, Arc::clone(&db), notify, &stop).await.unwrap();
    (folder, db, stop, daemon)
}

#[tokio::test]
async fn x05_a_run_that_panics_ends_neither_the_daemon_nor_anything_else_that_it_runs() {
    rustls::crypto::ring::default_provider().install_default().ok();
    // Nobody listens there: whatever is read fails, and that is known of both.
    let text = "[sources.s.client]\nbase_url = \"http://127.0.0.1:1/\"\nretry = { max_attempts = 1 }\n\
                [sources.s.resources.broken]\nevery = \"1h\"\n[sources.s.resources.other]\nevery = \"1h\"\n";
    let (_folder, db, stop, mut daemon) = daemon(text).await;
    let progress = vec![(ResourceId::new("s", "broken"), Arc::default())];
    let run = daemon.jobs.begin(0, false, stop.child_token(), progress, Now::read());
    daemon.runs.spawn(run, async { panic!("the cat is on the keyboard") });
    let mut board = daemon.door().board;
    let mut hangups = signal(SignalKind::hangup()).unwrap();
    let watch = async {
        let both = |jobs: &[crate::board::Job]| jobs.iter().all(|job| job.running.is_none() && job.failures == 1);
        assert!(board.wait_for(|board| board.jobs.len() == 2 && both(&board.jobs)).await.is_ok());
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(daemon.run(&mut hangups), watch);
    ended.unwrap();
    let runs = db.pasts(vec![ResourceId::new("s", "broken"), ResourceId::new("s", "other")]).await.unwrap();
    assert_eq!(runs.len(), 2, "the one that panicked has failed");
}

#[tokio::test]
async fn after_a_failure_of_the_file_what_does_not_end_is_not_waited_for_for_ever() {
    let text = "[pipeline]\nshutdown_grace = \"100ms\"\n[sources.s.client]\nbase_url = \"http://127.0.0.1:1/\"\n\
                [sources.s.resources.stuck]\n";
    let (_folder, _db, stop, mut daemon) = daemon(text).await;
    let run = daemon.jobs.begin(0, false, stop.child_token(), Vec::new(), Now::read());
    daemon.runs.spawn(run, std::future::pending());
    daemon.give_up(DbError::Full);
    let mut hangups = signal(SignalKind::hangup()).unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), daemon.run(&mut hangups)).await;
    assert!(matches!(ended, Ok(Err(DbError::Full))), "{ended:?}");
    assert!(!stop.is_cancelled());
}
