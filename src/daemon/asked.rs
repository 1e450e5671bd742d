//! What somebody asks a daemon to do, and what it answers.

use super::Daemon;
use crate::board::{Action, Request};
use crate::page::ResourceId;
use crate::plan;

impl Daemon<'_> {
    /// Does what is asked for, as far as it can be done, and says so.
    pub(super) async fn answer(&mut self, request: Request) {
        let answer = match &request.action {
            Action::Run(id) => self.want(id),
            Action::Pause(id) => self.pause(id, true).await,
            Action::Resume(id) => self.pause(id, false).await,
            Action::Retry(id) => self.retry(id).await,
        };
        if request.answer.send(answer).is_err() {
            tracing::debug!(action = ?request.action, "nobody waits for the answer any more");
        }
    }

    fn want(&mut self, id: &ResourceId) -> Result<String, String> {
        let job = self.jobs.of(id).ok_or_else(|| format!("no resource is called {id}"))?;
        job.is_wanted = true;
        Ok(match job.is_running() {
            true => format!("{id} is running; it runs once more when that is over"),
            false => format!("{id} runs as soon as there is room"),
        })
    }

    /// Has the records of a resource tried again that were set aside.
    async fn retry(&mut self, id: &ResourceId) -> Result<String, String> {
        let job = self.jobs.of(id).ok_or_else(|| format!("no resource is called {id}"))?;
        if let Some(reason) = plan::why_not_retried(&self.config, id) {
            return Err(format!("{id}: {reason}"));
        }
        let (rows, others) = self.db.count_set_aside(id).await.map_err(|error| error.to_string())?;
        if rows == 0 {
            return Err(match others {
                0 => format!("{id} has no records set aside"),
                _ => format!("{id}: what is set aside could not be read; it comes again with the next complete read"),
            });
        }
        if !job.retried.contains(id) {
            job.retried.push(id.clone());
        }
        let records = match rows {
            1 => "the record that was set aside is".to_owned(),
            _ => format!("{rows} records that were set aside are"),
        };
        Ok(format!("{id}: {records} tried again as soon as there is room"))
    }

    /// Pauses the job of a resource, or resumes it.
    async fn pause(&mut self, id: &ResourceId, paused: bool) -> Result<String, String> {
        let job = self.jobs.of(id).ok_or_else(|| format!("no resource is called {id}"))?;
        let resources = job.resources.clone();
        for resource in &resources {
            let done = if paused { self.db.pause(resource).await } else { self.db.resume(resource).await };
            done.map_err(|error| error.to_string())?;
        }
        self.learn(Some(&resources)).await.map_err(|error| error.to_string())?;
        let names = resources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(match paused {
            true => format!("{names}: paused until resumed; what is running goes on to its end"),
            false => format!("{names}: resumed"),
        })
    }
}
