//! A body as it arrives: decompressed by us, and never more of it than the limit. Compression is not left to the HTTP
//! library because it takes several gzip members for one and ignores what follows them.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// Compressed bytes are unpacked in pieces of this size: none of them becomes more than about 4 MiB.
const PIECE_BYTES: usize = 4 << 10;

/// Why a body is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Beyond the limit.
    TooLarge,
    /// Not what its `Content-Encoding` says.
    Gzip(String),
    /// A `Content-Encoding` that was not asked for.
    Unknown(String),
}

/// Collects the chunks of one body.
pub(super) enum Collector {
    Plain(Bounded),
    Gzip { decoder: Box<MultiGzDecoder<Bounded>>, started: bool },
}

/// A buffer that refuses to grow beyond a limit.
#[derive(Default)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    /// How long it will be, where that is known.
    announced: usize,
    limit: usize,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + chunk.len() > self.limit {
            self.full = true;
            return Err(io::Error::other("the page is too large"));
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.announced);
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Collector {
    /// `encoding` and `length` as the headers say them; `limit` counts decoded bytes.
    pub(super) fn new(encoding: Option<&str>, length: Option<u64>, limit: u64) -> Result<Self, BodyError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut buffer = Bounded { limit, ..Bounded::default() };
        match encoding.map(str::trim).map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "identity") => {
                let length = length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
                if length > limit {
                    return Err(BodyError::TooLarge);
                }
                buffer.announced = length;
                Ok(Self::Plain(buffer))
            }
            Some("gzip" | "x-gzip") => {
                Ok(Self::Gzip { decoder: Box::new(MultiGzDecoder::new(buffer)), started: false })
            }
            Some(other) => Err(BodyError::Unknown(other.chars().take(40).collect())),
        }
    }

    /// Bytes of memory that it will hold, at least, when it has taken this chunk.
    pub(super) fn held_with(&self, chunk: &[u8]) -> u64 {
        let buffer = match self {
            Self::Plain(buffer) => buffer,
            Self::Gzip { decoder, .. } => decoder.get_ref(),
        };
        let length = buffer.bytes.len() + chunk.len();
        // A vector that is full doubles.
        let capacity = buffer.bytes.capacity().max(buffer.announced);
        (if length > capacity { length.max(2 * capacity) } else { capacity }) as u64
    }

    /// The pieces of a chunk that are to be taken one by one.
    pub(super) fn pieces<'a>(&self, chunk: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = if matches!(self, Self::Plain(_)) { usize::MAX } else { PIECE_BYTES };
        chunk.chunks(size)
    }

    /// Takes one more chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        match self {
            Self::Plain(buffer) => buffer.write_all(chunk).map_err(|_| BodyError::TooLarge),
            Self::Gzip { decoder, started } => {
                *started |= !chunk.is_empty();
                let written = decoder.write_all(chunk);
                written.map_err(|error| gzip_error(decoder.get_ref(), &error))
            }
        }
    }

    /// The whole body; an error when the compressed stream does not end properly.
    pub(super) fn finish(self) -> Result<Bytes, BodyError> {
        match self {
            Self::Plain(buffer) => Ok(buffer.bytes.into()),
            Self::Gzip { started: false, .. } => Ok(Bytes::new()),
            Self::Gzip { mut decoder, .. } => match decoder.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes).into()),
                Err(error) => Err(gzip_error(decoder.get_ref(), &error)),
            },
        }
    }

    /// What there is of a body whose rest does not matter.
    pub(super) fn partial(mut self) -> Bytes {
        match &mut self {
            Self::Plain(buffer) => std::mem::take(&mut buffer.bytes).into(),
            Self::Gzip { decoder, .. } => std::mem::take(&mut decoder.get_mut().bytes).into(),
        }
    }
}

fn gzip_error(buffer: &Bounded, error: &io::Error) -> BodyError {
    if buffer.full { BodyError::TooLarge } else { BodyError::Gzip(format!("gzip: {error}")) }
}

#[cfg(test)]
mod tests {
    use super::{BodyError, Collector};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8], chunk: usize, limit: u64) -> Result<Vec<u8>, BodyError> {
        let mut collector = Collector::new(Some("gzip"), None, limit).unwrap();
        for chunk in bytes.chunks(chunk) {
            collector.push(chunk)?;
        }
        collector.finish().map(|bytes| bytes.to_vec())
    }

    #[test]
    fn b05_several_gzip_members_are_one_body() {
        let bytes = [gzip(b"[1,"), gzip(b""), gzip(b"2]")].concat();
        for chunk in [1, 2, 7, 1000] {
            assert_eq!(decode(&bytes, chunk, 100).unwrap(), b"[1,2]");
        }
    }

    #[test]
    fn b04_gzip_that_ends_anywhere_else_is_an_error() {
        let (first, second) = (gzip(b"[1,"), gzip(b"2]"));
        let bytes = [&first[..], &second].concat();
        for cut in 1..bytes.len() {
            for chunk in [1, 1000] {
                let result = decode(&bytes[..cut], chunk, 100);
                // Where one member ends and no other begins, the stream is whole.
                assert_eq!(result.is_err(), cut != first.len(), "cut at {cut}, chunks of {chunk}: {result:?}");
            }
        }
    }

    #[test]
    fn b05_garbage_after_gzip_and_a_wrong_checksum_are_errors() {
        for garbage in [&b"x"[..], b"\0\0\0\0", b"garbage after the last member", b"\x1f\x8b"] {
            for chunk in [1, 1000] {
                let result = decode(&[&gzip(b"[1]")[..], garbage].concat(), chunk, 100);
                assert!(matches!(result, Err(BodyError::Gzip(_))), "{garbage:?}: {result:?}");
            }
        }
        let mut wrong = gzip(b"[1]");
        let crc = wrong.len() - 8;
        wrong[crc] ^= 1;
        assert!(decode(&wrong, 1000, 100).is_err());
        assert!(decode(b"[1,2,3] is not gzip", 1000, 100).is_err());
        assert_eq!(decode(b"", 1000, 100).unwrap(), b"");
    }

    #[test]
    fn b06_the_limit_counts_decoded_bytes_and_stops_at_once() {
        let bomb = gzip(&vec![b' '; 10 << 20]);
        let mut collector = Collector::new(Some("x-gzip"), None, 1 << 20).unwrap();
        assert_eq!(collector.push(&bomb), Err(BodyError::TooLarge));
        assert!(collector.partial().len() <= 1 << 20);
        assert_eq!(decode(&gzip(&[b' '; 100]), 1000, 100).unwrap().len(), 100);
        assert_eq!(decode(&gzip(&[b' '; 101]), 1000, 100), Err(BodyError::TooLarge));
    }

    #[test]
    fn a_plain_body_is_bounded_by_what_is_announced_and_by_what_comes() {
        assert!(matches!(Collector::new(None, Some(101), 100), Err(BodyError::TooLarge)));
        let mut collector = Collector::new(Some("Identity"), Some(3), 4).unwrap();
        assert_eq!(collector.push(b"abc"), Ok(()));
        assert_eq!(collector.push(b"de"), Err(BodyError::TooLarge));
        assert!(matches!(Collector::new(Some("br"), None, 1), Err(BodyError::Unknown(_))));
        assert!(matches!(Collector::new(Some("gzip, gzip"), None, 1), Err(BodyError::Unknown(_))));
    }
}
