//! Log lines of a daemon on their way to standard error. Whoever reads there may stop reading, and nothing waits for that:
//! the lines wait in a queue, one thread writes them, and what the queue cannot hold is counted and lost.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::progress::LOG_LINES_LOST;
use crate::tasks;

/// What may wait.
const LINES_MAX: usize = 10_000;
const BYTES_MAX: usize = 4 << 20;

/// At the end, the rest is waited for while lines are written: after this long without one nobody reads.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// However slowly they are written, the process does not wait longer than this.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// The way to standard error. Dropping it waits for what is in the queue, within bounds.
#[derive(Debug)]
pub(super) struct Lines(Arc<Shared>);

/// Puts lines into the queue, and never waits.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    written: u64,
    /// Lines lost since that was last said. While there are some, no more are taken, until half of the queue is free.
    lost: u64,
}

/// What the thread does next.
enum Next {
    Write(Vec<u8>),
    SayLost(u64),
}

impl Lines {
    /// Starts the thread that writes to `out`. It ends with the process.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        tasks::thread("log", move || {
            loop {
                match own.next() {
                    // Lines of the log themselves, in its format, and behind those that came before the loss.
                    Next::SayLost(lost) => tracing::warn!(lost, "log lines were lost: nobody read them"),
                    Next::Write(line) => {
                        // A closed standard error is no reason to stop.
                        if out.write_all(&line).is_err() {
                            LOG_LINES_LOST.add(1);
                        }
                        own.has_written();
                    }
                }
            }
        })?;
        Ok(Self(shared))
    }

    /// Puts a line into the queue that is not of the log.
    pub(super) fn put(&self, line: &str) {
        self.0.put(line.as_bytes());
    }

    pub(super) fn writer(&self) -> LineWriter {
        LineWriter(Arc::clone(&self.0))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.flush();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.lost == 0 && queue.waiting.len() < LINES_MAX && queue.bytes + line.len() <= BYTES_MAX {
            queue.bytes += line.len();
            queue.waiting.push_back(line.to_owned());
        } else {
            queue.lost += 1;
            LOG_LINES_LOST.add(1);
        }
        self.changed.notify_all();
    }

    /// Waits for something to do.
    fn next(&self) -> Next {
        let mut queue = self.lock();
        loop {
            if queue.lost > 0 && queue.waiting.len() <= LINES_MAX / 2 && queue.bytes <= BYTES_MAX / 2 {
                return Next::SayLost(std::mem::take(&mut queue.lost));
            }
            if let Some(line) = queue.waiting.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return Next::Write(line);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn has_written(&self) {
        let mut queue = self.lock();
        queue.is_writing = false;
        queue.written += 1;
        self.changed.notify_all();
    }

    /// Waits until everything is written, for as long as there is hope.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let mut queue = self.lock();
        while queue.is_writing || !queue.waiting.is_empty() {
            let written = queue.written;
            let wait = STUCK_AFTER.min(deadline.saturating_duration_since(Instant::now()));
            let waited = self.changed.wait_timeout_while(queue, wait, |queue| queue.written == written);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if queue.written == written {
                return;
            }
        }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{BYTES_MAX, LINES_MAX, Lines, Next, Shared};

    /// Writes a line only when it is told to, and says that it has begun.
    struct Slow {
        begun: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.begun.send(line.to_owned()).ok();
            self.go_on.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_queued_is_written_at_the_end_and_one_who_does_not_read_is_not_waited_for() {
        let (begun, lines) = channel();
        let (tell, go_on) = channel();
        let log = Lines::start(Slow { begun, go_on }).unwrap();
        let mut writer = log.writer();
        for line in ["a", "b", "c"] {
            writer.write_all(line.as_bytes()).unwrap();
        }
        (0..2).for_each(|_| tell.send(()).unwrap());
        // Two are written, the third is stuck.
        drop(log);
        assert_eq!(lines.iter().take(3).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }

    #[test]
    fn x12_what_the_queue_cannot_hold_is_lost_and_counted_until_half_of_it_is_free() {
        let shared = Shared::default();
        let is_line = |next: Next| matches!(next, Next::Write(_));
        for _ in 0..LINES_MAX + 7 {
            shared.put(b"x");
        }
        for _ in 0..LINES_MAX / 2 - 1 {
            assert!(is_line(shared.next()));
            shared.put(b"lost as well");
        }
        assert!(is_line(shared.next()));
        let lost = 7 + LINES_MAX as u64 / 2 - 1;
        assert!(matches!(shared.next(), Next::SayLost(said) if said == lost));
        shared.put(b"last");
        for _ in 0..LINES_MAX / 2 {
            assert!(matches!(shared.next(), Next::Write(line) if line == b"x"));
        }
        assert!(matches!(shared.next(), Next::Write(line) if line == b"last"));
        // One line that is too long for the whole of it.
        shared.put(&vec![0; BYTES_MAX + 1]);
        assert!(matches!(shared.next(), Next::SayLost(1)));
    }
}
