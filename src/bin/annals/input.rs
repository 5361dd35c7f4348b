//! Reads input that may be compressed.

use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};

use flate2::bufread::GzDecoder;

/// The first two bytes of each member of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The input, decompressed if it begins with the gzip magic bytes. Bytes after the compressed data
/// are ignored: `on_trailing` is called if any exist.
pub(crate) fn decompressed(
    raw: Box<dyn Read>,
    on_trailing: impl FnMut() + 'static,
) -> io::Result<Box<dyn BufRead>> {
    let (magic, whole) = peek(BufReader::with_capacity(1 << 16, raw))?;
    if magic != GZIP_MAGIC {
        return Ok(Box::new(whole));
    }
    let members = Members { member: Some(GzDecoder::new(whole)), on_trailing };
    Ok(Box::new(BufReader::with_capacity(1 << 16, members)))
}

/// An input with some bytes read ahead.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Returns the first two bytes of an input, fewer at its end, and the whole input.
fn peek<R: BufRead>(mut input: R) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut magic = Vec::new();
    input.by_ref().take(2).read_to_end(&mut magic)?;
    Ok((magic.clone(), Cursor::new(magic).chain(input)))
}

/// The content of a gzip file: its members, one after the other.
struct Members<R, F> {
    /// The member that is being read; `None` after the last.
    member: Option<GzDecoder<Peeked<R>>>,
    on_trailing: F,
}

impl<R: BufRead, F: FnMut()> Members<R, F> {
    /// Moves to the next member, if one exists.
    fn advance(&mut self) -> io::Result<()> {
        let Some(member) = self.member.take() else { return Ok(()) };
        let (_, input) = member.into_inner().into_inner();
        let (magic, input) = peek(input)?;
        if magic.is_empty() {
            return Ok(());
        }
        // Half of the magic bytes indicates a truncated member.
        if GZIP_MAGIC.starts_with(&magic) {
            self.member = Some(GzDecoder::new(input));
        } else {
            (self.on_trailing)();
        }
        Ok(())
    }
}

impl<R: BufRead, F: FnMut()> Read for Members<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            match member.read(buffer) {
                Ok(0) => self.advance()?,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "its gzip data ends too early, so the input is incomplete",
                    ));
                }
                read => return read,
            }
        }
    }
}
