//! What systemd is told of a service: that it is ready, what it is doing, that it is alive (sd_notify(3)). Says nothing
//! where nobody listens.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;

/// systemd shows this much of a status in one line; and what an API says in it must not fill the datagram.
const STATUS_CHARS_MAX: usize = 300;

/// A start that takes long asks for more time so often.
const EXTEND_EVERY: Duration = Duration::from_secs(1);

/// How much time is asked for each time.
const EXTEND_BY: Duration = Duration::from_secs(15);

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    /// None where nobody listens.
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The manager that has started this process, as `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` name it.
    #[must_use]
    pub fn from_env() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref(), sd_notify::watchdog_enabled())
    }

    fn to(name: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let socket = name.filter(|name| !name.is_empty()).and_then(|name| {
            let connected = connect(name);
            connected.inspect_err(|error| tracing::warn!(%error, "cannot reach the service manager")).ok()
        });
        Self { watchdog: watchdog.filter(|limit| socket.is_some() && !limit.is_zero()), socket }
    }

    /// The service does its work; also the end of a reload.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// What it is doing, for `systemctl status`: one line.
    pub fn status(&self, text: &str) {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_CHARS_MAX).collect();
        self.send(&[NotifyState::Status(&line)]);
    }

    /// It is alive: the next of these has to come within the watchdog's time.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often [`Self::watchdog`] is to be called: half the time after which the manager ends the process. None where
    /// it does not watch.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// It reads its configuration again; [`Self::ready`] says that this is over.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "read the monotonic clock"),
        }
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// What goes on (start or stop) takes up to this much longer, from now on.
    pub fn extend(&self, by: Duration) {
        self.send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// Does what has to be done before the service is ready, and asks for more time as long as that takes.
    pub async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(EXTEND_EVERY) => self.extend(EXTEND_BY),
            }
        }
    }

    /// A manager that does not hear is no reason to stop.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "tell the service manager");
        }
    }
}

/// A name that begins with `@` is one of Linux's abstract sockets, which containers use. A manager that is stuck must
/// not hold up the service, so nothing here waits.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::Notify;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_one_datagram_in_the_words_of_systemd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.as_os_str()), Some(Duration::from_secs(60)));
        notify.ready();
        notify.status("reading shop.orders:\npage 3\nREADY=1");
        notify.watchdog();
        notify.extend(Duration::from_secs(45));
        notify.extend(Duration::from_secs(9999));
        notify.stopping();
        let expected = [
            "READY=1\n",
            "STATUS=reading shop.orders: page 3 READY=1\n",
            "WATCHDOG=1\n",
            "EXTEND_TIMEOUT_USEC=45000000\n",
            "EXTEND_TIMEOUT_USEC=4294967295\n",
            "STOPPING=1\n",
        ];
        assert_eq!(expected.map(|_| received(&manager)), expected);
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(30)));

        notify.reloading();
        let reloading = received(&manager);
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(at.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");

        notify.status(&"x".repeat(10_000));
        assert_eq!(received(&manager).len(), "STATUS=\n".len() + 300);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_reached_too() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let name = format!("highwater-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::to(Some(OsStr::new(&format!("@{name}"))), None).ready();
        assert_eq!(received(&manager), "READY=1\n");
    }

    #[test]
    fn without_a_manager_or_after_its_end_nothing_is_said_and_nothing_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        for name in [None, Some(OsStr::new("")), Some(path.as_os_str())] {
            let notify = Notify::to(name, Some(Duration::from_secs(60)));
            notify.ready();
            assert_eq!(notify.watchdog_interval(), None);
        }
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.as_os_str()), None);
        assert_eq!(notify.watchdog_interval(), None);
        drop(manager);
        notify.ready();
        notify.reloading();
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.as_os_str()), None);
        for _ in 0..10_000 {
            notify.watchdog();
        }
    }
}
