//! Tasks that run side by side, each with an owner who awaits it: the one place that spawns.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{Id, JoinSet, block_in_place};

use crate::sabotage::{Sabotage, on};

/// A group of tasks. Dropping it ends those that still run.
#[derive(Debug)]
pub struct TaskGroup<K, T> {
    tasks: JoinSet<T>,
    keys: HashMap<Id, K>,
}

/// A task ended in a panic: our bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bug in highwater: {0}")]
pub struct Panicked(pub String);

impl<K, T> Default for TaskGroup<K, T> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), keys: HashMap::new() }
    }
}

impl<K, T: Send + 'static> TaskGroup<K, T> {
    /// Starts a task; `key` says whose result it is.
    pub fn spawn(&mut self, key: K, task: impl Future<Output = T> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.keys.insert(handle.id(), key);
    }

    /// The next task that ends, or `None` when there is none left. Cancel-safe.
    pub async fn next(&mut self) -> Option<(K, Result<T, Panicked>)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, value)) => (id, Ok(value)),
            Err(error) => (error.id(), Err(Panicked(panic_message(error)))),
        };
        let key = self.keys.remove(&id).expect("every task was started with a key");
        Some((key, result))
    }
}

/// Does work on a thread of its own that ends with the process, because it waits for what may never come.
///
/// # Errors
/// When the system has no thread left.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Does work that keeps its thread busy for long. The other tasks of a runtime with several threads go on meanwhile.
pub fn busy<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panic: {}", words_of_panic(&*panic)),
        Err(error) => error.to_string(),
    }
}

/// What may be shown of a panic's message: all of it where it came as it stands in the code, or has only numbers put into it.
/// Any other may quote what was read (a string that is cut within a character quotes itself), so only the place tells more.
/// The words of an `expect` are of the others: they come like a text that was made.
#[must_use]
pub fn words_of_panic(payload: &(dyn Any + Send)) -> &str {
    /// What Rust itself puts numbers into.
    const NUMBERS: [&str; 3] = ["index out of bounds: ", "range start index ", "range end index "];
    if let Some(text) = payload.downcast_ref::<&str>() {
        return text;
    }
    let Some(text) = payload.downcast_ref::<String>() else { return "without a message" };
    let is_shown = NUMBERS.iter().any(|start| text.starts_with(start)) || on(Sabotage::PanicQuotes);
    if is_shown { text } else { "its message is not shown, it may quote what was read" }
}

#[cfg(test)]
mod tests {
    use super::TaskGroup;

    #[tokio::test]
    async fn a_panic_reaches_the_one_who_awaits_the_group() {
        let mut group = TaskGroup::default();
        group.spawn("fine", async { 1 });
        group.spawn("broken", async { panic!("out of order") });
        let mut results = Vec::new();
        while let Some((key, result)) = group.next().await {
            results.push((key, result.map_err(|panic| panic.0)));
        }
        results.sort();
        assert_eq!(results, [("broken", Err("panic: out of order".to_owned())), ("fine", Ok(1))]);
    }

    #[tokio::test]
    async fn c07_a_panic_that_may_quote_what_was_read_keeps_it_to_itself() {
        let hidden = "panic: its message is not shown, it may quote what was read";
        for (read, cut_at, said) in [
            ("é: s3cret", 1, hidden),
            ("s3cret", 9, hidden),
            ("s", 0, "panic: index out of bounds: the len is 1 but the index is 1"),
        ] {
            let mut group = TaskGroup::default();
            group.spawn((), async move { read[..cut_at].len() + usize::from([0_u8][read.len()]) });
            let Some(((), Err(panic))) = group.next().await else { panic!("{read} at {cut_at}") };
            assert_eq!(panic.0, said, "{read}");
        }
    }
}
