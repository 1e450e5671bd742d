//! The socket that the status page is served on.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::{Listen, WebOptions};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 64;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Either<TcpListener, UnixListener>,
    place: Listen,
    /// Removed with the listener.
    _file: Option<SocketFile>,
}

/// Binds the socket that the options name; none where the page is off.
///
/// # Errors
/// When the address is not to be had, when somebody listens on the Unix socket, or when what is there is no socket.
/// When other machines reach it and there is no token.
pub fn bind(options: &WebOptions) -> io::Result<Option<Listener>> {
    if options.listen.is_open() && options.token.is_none() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "other machines reach it, and there is no token"));
    }
    match &options.listen {
        Listen::Off => Ok(None),
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let place = Listen::Tcp(listener.local_addr()?);
            Ok(Some(Listener { socket: Either::Left(TcpListener::from_std(listener)?), place, _file: None }))
        }
        Listen::Unix(path) => {
            let listener = bind_unix(path)?;
            let file = Some(SocketFile(path.clone()));
            let socket = Either::Right(UnixListener::from_std(listener)?);
            Ok(Some(Listener { socket, place: options.listen.clone(), _file: file }))
        }
    }
}

impl Listener {
    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn place(&self) -> &Listen {
        &self.place
    }

    /// The next connection. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match &self.socket {
            Either::Left(listener) => Ok(Either::Left(listener.accept().await?.0)),
            Either::Right(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

/// A file that is removed when nobody listens on it any more.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start finds that nobody listens on it.
        std::fs::remove_file(&self.0).ok();
    }
}

/// A socket file for its owner alone. It gets its mode before it listens: nobody connects in between.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    make_room(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket that an earlier process left.
fn make_room(path: &Path) -> io::Result<()> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is not a socket"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on it")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Listen, WebOptions, bind};
    use crate::secret::Secret;

    fn options(listen: &str) -> WebOptions {
        WebOptions { listen: listen.parse().unwrap(), token: None }
    }

    #[tokio::test]
    async fn an_open_address_needs_a_token() {
        let mut options = options("0.0.0.0:0");
        assert!(bind(&options).is_err());
        options.token = Some(Secret::new("t".to_owned()));
        let listener = bind(&options).unwrap().unwrap();
        assert!(matches!(listener.place(), Listen::Tcp(address) if address.port() != 0));
        assert!(bind(&self::options("off")).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_socket_file_is_for_its_owner_and_replaced_only_where_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let options = options(&format!("unix:{}", path.display()));
        let first = bind(&options).unwrap().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(bind(&options).unwrap_err().to_string().contains("somebody listens"));
        drop(first);
        assert!(!path.exists());
        // A process that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(bind(&options).unwrap().unwrap());
        std::fs::write(&path, "text").unwrap();
        assert!(bind(&options).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    }
}
