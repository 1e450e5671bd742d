//! A body as it arrives: decompressed by us, and never more of it than the limit. Compression is not left to the HTTP
//! library because it takes several gzip members for one and ignores what follows them.
//!
//! A body that is a gzip file itself is decompressed as well, whatever its headers say: its first bytes cannot begin
//! any of the formats that are read.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use crate::rest::request::cut;

/// Compressed bytes are unpacked in pieces of this size: none of them becomes more than about 4 MiB.
const PIECE_BYTES: usize = 4 << 10;

/// So much is shown of the name of an encoding.
const NAME_BYTES_MAX: usize = 40;

/// How a gzip file begins (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

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
    Plain(Content),
    Gzip { decoder: Box<MultiGzDecoder<Content>>, started: bool },
}

/// What is left when the content encoding is taken off.
pub(super) enum Content {
    /// Too little of it has come to say what it is.
    Unknown {
        begin: Vec<u8>,
        buffer: Bounded,
    },
    Plain(Bounded),
    /// A gzip file.
    File(Box<MultiGzDecoder<Bounded>>),
}

impl Content {
    fn new(buffer: Bounded) -> Self {
        Self::Unknown { begin: Vec::new(), buffer }
    }

    fn buffer(&self) -> &Bounded {
        match self {
            Self::Unknown { buffer, .. } | Self::Plain(buffer) => buffer,
            Self::File(decoder) => decoder.get_ref(),
        }
    }

    /// The bytes so far.
    fn take(&mut self) -> Vec<u8> {
        match self {
            // One byte is no gzip file.
            Self::Unknown { begin, .. } => std::mem::take(begin),
            Self::Plain(buffer) => std::mem::take(&mut buffer.bytes),
            Self::File(decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        }
    }

    /// All bytes; an error when they are a gzip file that does not end properly.
    fn finish(&mut self) -> Result<Bytes, BodyError> {
        if let Self::File(decoder) = self
            && let Err(error) = decoder.try_finish()
        {
            return Err(gzip_error(decoder.get_ref(), &error));
        }
        Ok(self.take().into())
    }
}

impl Write for Content {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(buffer) => buffer.write(chunk),
            Self::File(decoder) => decoder.write(chunk),
            Self::Unknown { begin, buffer } => {
                let taken = chunk.len().min(GZIP_MAGIC.len() - begin.len());
                begin.extend_from_slice(&chunk[..taken]);
                if begin.len() == GZIP_MAGIC.len() {
                    let (begin, mut buffer) = (std::mem::take(begin), std::mem::take(buffer));
                    *self = if begin == GZIP_MAGIC {
                        // What was announced is the length of the file.
                        buffer.announced = 0;
                        Self::File(Box::new(MultiGzDecoder::new(buffer)))
                    } else {
                        Self::Plain(buffer)
                    };
                    self.write_all(&begin)?;
                }
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
                Ok(Self::Plain(Content::new(buffer)))
            }
            Some("gzip" | "x-gzip") => {
                Ok(Self::Gzip { decoder: Box::new(MultiGzDecoder::new(Content::new(buffer))), started: false })
            }
            Some(other) => Err(BodyError::Unknown(cut(other, NAME_BYTES_MAX))),
        }
    }

    /// Bytes of memory that it will hold, at least, when it has taken this chunk.
    pub(super) fn held_with(&self, chunk: &[u8]) -> u64 {
        let buffer = match self {
            Self::Plain(content) => content.buffer(),
            Self::Gzip { decoder, .. } => decoder.get_ref().buffer(),
        };
        let length = buffer.bytes.len() + chunk.len();
        // A vector that is full doubles.
        let capacity = buffer.bytes.capacity().max(buffer.announced);
        (if length > capacity { length.max(2 * capacity) } else { capacity }) as u64
    }

    /// The pieces of a chunk that are to be taken one by one.
    pub(super) fn pieces<'a>(&self, chunk: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = if matches!(self, Self::Plain(Content::Plain(_))) { usize::MAX } else { PIECE_BYTES };
        chunk.chunks(size)
    }

    /// Takes one more chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        match self {
            Self::Plain(content) => {
                let written = content.write_all(chunk);
                written.map_err(|error| gzip_error(content.buffer(), &error))
            }
            Self::Gzip { decoder, started } => {
                *started |= !chunk.is_empty();
                let written = decoder.write_all(chunk);
                written.map_err(|error| gzip_error(decoder.get_ref().buffer(), &error))
            }
        }
    }

    /// The whole body; an error when the compressed stream does not end properly.
    pub(super) fn finish(self) -> Result<Bytes, BodyError> {
        match self {
            Self::Plain(mut content) => content.finish(),
            Self::Gzip { started: false, .. } => Ok(Bytes::new()),
            Self::Gzip { mut decoder, .. } => match decoder.try_finish() {
                Ok(()) => decoder.get_mut().finish(),
                Err(error) => Err(gzip_error(decoder.get_ref().buffer(), &error)),
            },
        }
    }

    /// What there is of a body whose rest does not matter.
    pub(super) fn partial(mut self) -> Bytes {
        match &mut self {
            Self::Plain(content) => content.take().into(),
            Self::Gzip { decoder, .. } => decoder.get_mut().take().into(),
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
    fn a_gzip_file_is_taken_for_what_it_holds_with_a_content_encoding_or_without() {
        let file = [gzip(b"a,b\n"), gzip(b"1,2\n")].concat();
        for (encoding, bytes) in [(None, file.clone()), (Some("gzip"), gzip(&file))] {
            for chunk in [1, 2, 7, 1000] {
                let take = |bytes: &[u8], limit| {
                    let mut collector = Collector::new(encoding, None, limit).unwrap();
                    bytes.chunks(chunk).try_for_each(|chunk| collector.push(chunk))?;
                    collector.finish()
                };
                assert_eq!(take(&bytes, 8).unwrap(), "a,b\n1,2\n");
                assert_eq!(take(&bytes, 7), Err(BodyError::TooLarge));
                let cut = take(&bytes[..bytes.len() - 1], 8);
                assert!(matches!(cut, Err(BodyError::Gzip(_))), "{encoding:?} {chunk}: {cut:?}");
            }
        }
        let mut collector = Collector::new(None, Some(file.len() as u64), 1 << 20).unwrap();
        assert_eq!(collector.pieces(&[0; 10_000]).count(), 3);
        collector.push(&gzip(&vec![b' '; 1 << 21])[..1000]).unwrap();
        assert_eq!(collector.pieces(&[0; 10_000]).count(), 3, "none of them grows beyond all bounds");
        let mut one = Collector::new(None, None, 10).unwrap();
        one.push(&[0x1f]).unwrap();
        assert_eq!(one.finish().unwrap(), &[0x1f][..]);
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
