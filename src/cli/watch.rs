//! Progress while a run lasts: a line for each resource on a terminal, a line every ten seconds elsewhere.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::{Console, count};
use crate::progress::{Activity, ResourceProgress};
use crate::sync::PlannedResource;

/// How often the lines on a terminal are drawn.
const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where nothing can be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of a plan until it is dropped.
pub(super) async fn watch(planned: Vec<PlannedResource>, console: Console) {
    if console.bars.is_hidden() {
        write_lines(&planned, &console).await;
    } else {
        draw(&planned, &console).await;
    }
}

async fn draw(planned: &[PlannedResource], console: &Console) {
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("a constant template");
    let mut bars: Vec<Option<Bar>> = planned.iter().map(|_| None).collect();
    let mut ticks = interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        for (planned, bar) in planned.iter().zip(&mut bars) {
            match planned.progress.activity() {
                Activity::Queued | Activity::Ended => *bar = None,
                _ => {
                    let bar = bar.get_or_insert_with(|| {
                        Bar(console.bars.add(ProgressBar::new_spinner().with_style(style.clone())))
                    });
                    bar.0.set_message(line(planned));
                    bar.0.tick();
                }
            }
        }
    }
}

/// A line on the terminal that goes when its resource has ended.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn write_lines(planned: &[PlannedResource], console: &Console) {
    let mut ticks = interval(LINE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        for planned in planned {
            if !matches!(planned.progress.activity(), Activity::Queued | Activity::Ended) {
                console.say(&line(planned));
            }
        }
    }
}

fn line(planned: &PlannedResource) -> String {
    let progress: &Arc<ResourceProgress> = &planned.progress;
    let done = format!(
        "{}: {}, {}",
        planned.id(),
        count(progress.pages_committed.get(), "page"),
        count(progress.records_committed.get(), "record")
    );
    match progress.activity() {
        Activity::Waiting { until, reason } => {
            let seconds = until.duration_since(Timestamp::now()).as_secs().max(0);
            format!("{done}, waiting {seconds} s: {reason}")
        }
        _ => done,
    }
}
