//! Tasks that run side by side, each with an owner who awaits it: the one place that spawns.

use std::collections::HashMap;
use std::future::Future;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{Id, JoinSet, block_in_place};

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
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panic: {}", text.unwrap_or_else(|| "without a message".to_owned()))
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::TaskGroup;

    #[tokio::test]
    async fn a_panic_reaches_the_one_who_awaits_the_group() {
        let mut group = TaskGroup::default();
        group.spawn("fine", async { 1 });
        group.spawn("broken", async { panic!("out of {}", "order") });
        let mut results = Vec::new();
        while let Some((key, result)) = group.next().await {
            results.push((key, result.map_err(|panic| panic.0)));
        }
        results.sort();
        assert_eq!(results, [("broken", Err("panic: out of order".to_owned())), ("fine", Ok(1))]);
    }
}
