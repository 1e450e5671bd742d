//! What is promised, while processes, disks and power fail: an API whose pages are known by heart, a judge that holds the
//! file against all that was ever served, and the ways to break what lies between.

mod calls;
mod disk;
mod hands;
mod judge;
mod kills;
mod power;
mod shop;
mod sweep;

use std::process::Command;
use std::sync::Arc;

use crate::support::{Finished, Workspace, binary};
use judge::{Judge, Standings, check_requests, nothing_read, still_open};
use shop::{Kind, Shop};

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
    /// The number of the process that reads, or was the last to.
    life: u64,
    /// How many complete reads there are to be.
    rounds: u64,
}

impl Victim {
    fn new(shop: Shop) -> Self {
        let shop = Arc::new(shop);
        let (workspace, judge) = (shop.workspace(), Judge::new(shop.size));
        Self { shop, workspace, judge, standings: nothing_read(), life: 0, rounds: 0 }
    }

    /// The resources that this round has not read to the end yet.
    fn open(&self) -> Vec<Kind> {
        still_open(&self.standings, self.rounds)
    }

    /// The next life: a sync of what is still open, under another program where `wrapper` is one with its arguments.
    fn command(&mut self, wrapper: &[&str]) -> Command {
        self.life = self.shop.next_life();
        let binary = binary();
        let line: Vec<&str> = wrapper.iter().copied().chain([&*binary, "sync"]).collect();
        let mut command = self.workspace.command_of(line[0], &line[1..]);
        command.args(self.open().iter().map(|kind| format!("shop.{}", kind.name())));
        shop::sign(&mut command, self.life);
        command
    }

    /// Holds what the present life has left against what was served; `open` is what it was to read.
    fn judge(&mut self, open: &[Kind]) {
        let before = std::mem::replace(&mut self.standings, self.judge.look(&self.workspace, self.life));
        check_requests(self.life, &self.shop.log.of(self.life), &before, open);
    }

    /// The same for a life that nothing has cut short.
    fn ended_well(&mut self, finished: Finished, open: &[Kind]) {
        let life = self.life;
        assert_eq!(finished.code, Some(0), "life {life}: {finished:#?}");
        assert!(!self.workspace.path("highwater.db-wal").exists(), "life {life} has not closed the file");
        self.judge(open);
        assert!(self.open().is_empty(), "life {life} said that all is complete");
    }

    /// When a round has ended: the tables are what the shop has.
    fn check_all(&self) {
        let served = |kind: Kind| self.shop.size.ids(kind).collect::<Vec<u64>>();
        let ids = |sql: &str| self.workspace.column::<u64>(sql);
        assert_eq!(ids("SELECT id FROM shop_items ORDER BY id"), served(Kind::Items));
        assert_eq!(ids("SELECT id FROM shop_stock ORDER BY id"), served(Kind::Stock));
        let rounds = usize::try_from(self.rounds).unwrap();
        let once_for_each_read: Vec<u64> = served(Kind::Events).iter().flat_map(|id| vec![*id; rounds]).collect();
        assert_eq!(ids("SELECT id FROM shop_events ORDER BY id"), once_for_each_read);
        self.workspace.check_books();
    }
}
