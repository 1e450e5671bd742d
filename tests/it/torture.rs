//! What is promised, while processes, disks and power fail: an API whose pages are known by heart, a judge that holds the
//! file against all that was ever served, and the ways to break what lies between.

mod calls;
mod clock;
mod daemons;
mod disk;
mod hands;
mod judge;
mod kills;
mod power;
mod shop;
mod sweep;
mod takings;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use crate::support::{Finished, Workspace, binary};
use judge::{Judge, Standings, check_requests, nothing_read, still_open};
use shop::{KINDS, Kind, Life, Shop};

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is to be a number: {text}")))
}

/// What all dice are thrown from: `HIGHWATER_TORTURE_SEED`, or another each time.
fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    from_environment("HIGHWATER_TORTURE_SEED").unwrap_or(clock.subsec_nanos().into())
}

/// A file that processes read the shop into, one after the other, and what is known of it.
struct Victim {
    shop: Arc<Shop>,
    workspace: Workspace,
    judge: Judge,
    /// Where the file stood when it was last looked at.
    standings: Standings,
    /// The process that reads, or was the last to.
    life: Life,
    /// How many complete reads there are to be.
    rounds: u64,
}

impl Victim {
    fn new(shop: Shop) -> Self {
        let shop = Arc::new(shop);
        let (workspace, judge, standings) = (shop.workspace(), Judge::new(shop.size), nothing_read(shop.size));
        Self { shop, workspace, judge, standings, life: Life::default(), rounds: 0 }
    }

    /// The resources that this round has not read to the end yet.
    fn open(&self) -> Vec<Kind> {
        still_open(&self.standings, self.rounds)
    }

    /// The next life: a sync of what is still open, under another program where `wrapper` is one with its arguments.
    fn command(&mut self, wrapper: &[&str]) -> Command {
        let binary = binary();
        let names: Vec<String> = self.open().iter().map(|kind| format!("shop.{}", kind.name())).collect();
        let line: Vec<&str> = wrapper.iter().copied().chain([&*binary, "sync"]).collect();
        let mut command = self.live_as(line[0], &line[1..]);
        command.args(names);
        command
    }

    /// The next life, which does what these arguments say.
    fn live(&mut self, arguments: &[&str]) -> Command {
        self.live_as(&binary(), arguments)
    }

    fn live_as(&mut self, program: &str, arguments: &[&str]) -> Command {
        self.life = self.shop.next_life(self.rounds);
        let mut command = self.workspace.command_of(program, arguments);
        // Files that are only needed for a while would be found there.
        command.env("TMPDIR", self.workspace.path("")).env("SQLITE_TMPDIR", self.workspace.path(""));
        self.life.sign(&mut command);
        command
    }

    /// How many requests the present life is away from a complete round.
    fn left(&self) -> u64 {
        let left = |kind: Kind| {
            let parts = self.shop.size.parts(kind).zip(&self.standings[&kind].next);
            parts.map(|(part, next)| self.shop.size.left(part, *next, self.life)).sum::<u64>()
        };
        self.open().into_iter().map(left).sum()
    }

    /// Nothing is left beside the file that does not belong to it; where it was `closed`, nothing of SQLite's either.
    fn check_folder(&self, closed: bool) {
        let names = std::fs::read_dir(self.workspace.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let strangers = names.map(|name| name.into_string().unwrap()).filter(|name| match name.as_str() {
            "config.toml" | "calls" | "new" | "highwater.db" | "highwater.db.lock" => false,
            "highwater.db-wal" | "highwater.db-shm" | "highwater.db-journal" => closed,
            _ => true,
        });
        assert_eq!(strangers.collect::<Vec<_>>(), [""; 0], "{:?} has left something", self.life);
    }

    /// Looks at what the present life has left; returns where the file stood before.
    fn look(&mut self) -> Standings {
        self.check_folder(false);
        std::mem::replace(&mut self.standings, self.judge.look(&self.workspace, self.life))
    }

    /// Holds what the present life has left against what was served; `open` is what it was to read.
    fn judge(&mut self, open: &[Kind]) {
        let before = self.look();
        check_requests(self.life, &self.shop.log.of(self.life.number), &before, open);
    }

    /// The same for a life that nothing has cut short.
    fn ended_well(&mut self, finished: Finished, open: &[Kind]) {
        let life = self.life;
        assert_eq!(finished.code, Some(0), "{life:?}: {finished:#?}");
        self.check_folder(true);
        self.judge(open);
        assert!(self.open().is_empty(), "{life:?} said that all is complete");
    }

    /// When a round has ended: the tables are what the shop has.
    fn check_all(&self) {
        for kind in KINDS {
            let reads = self.standings[&kind].complete;
            let once = reads * self.shop.size.parts(kind).count() as u64 * self.shop.size.of(kind);
            let is_read_once = !matches!(kind, Kind::Changes | Kind::Shelves);
            assert!(self.judge.pages_of(kind) == once || !is_read_once, "{kind:?}: each page once for each read");
            let all = self.shop.size.all(kind, self.life).into_iter().map(|(id, _)| id).collect::<BTreeSet<u64>>();
            // Appended once for each read.
            let times = if kind == Kind::Events { usize::try_from(reads).unwrap() } else { 1 };
            let expected: Vec<u64> = all.iter().flat_map(|id| vec![*id; times]).collect();
            let table = kind.name();
            assert_eq!(
                self.workspace.column::<u64>(&format!("SELECT id FROM shop_{table} ORDER BY id")),
                expected,
                "{table}"
            );
        }
        self.workspace.check_books();
    }
}
