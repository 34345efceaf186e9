//! Bodies as they are framed on HTTP/1 (RFC 9112 §6, §7), read byte for byte in whatever pieces they
//! come: framing is taken off, and anything that is not exactly framing is an error. Pure.

use crate::Framing;

/// A chunk's line with its extensions, and all trailers together; both are thrown away.
const SMALL_PRINT_MAX: u32 = 8 << 10;

/// Hexadecimal digits of a chunk's size: up to 2^60 bytes.
const SIZE_DIGITS_MAX: u8 = 15;

/// What came was no such body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody;

/// A body that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// All of it has been read.
    Done,
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    UntilClose,
}

/// Where in a chunk the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk(Place);

/// The place; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its size, of which so many digits have been read.
    Size { size: u64, digits: u8 },
    /// Behind its size, in extensions; so many bytes of them have been seen.
    Extension { size: u64, seen: u32 },
    /// At the LF of its first line.
    LineEnd { size: u64 },
    /// In its data.
    Data { left: u64 },
    /// At the CR behind its data.
    DataCr,
    /// At the LF behind its data.
    DataLf,
    /// In the trailers: so many bytes seen, and whether this line is empty so far.
    Trailer { seen: u32, empty: bool },
    /// At the LF of a trailer's line.
    TrailerLf { seen: u32, empty: bool },
}

impl From<Framing> for Body {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Done,
            Framing::Length(left) => Self::Length(left),
            Framing::Chunked => Self::chunked(),
        }
    }
}

impl Body {
    /// A body in chunks, at its beginning.
    pub fn chunked() -> Self {
        Self::Chunked(Chunk(Place::Size { size: 0, digits: 0 }))
    }

    /// Says whether all of it has been read.
    pub fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Takes the next piece off the input: how many bytes it took, and the data among them (at their end).
    /// Nothing is taken when it is done, or there is no input.
    ///
    /// # Errors
    /// [`BadBody`] when the input is not framed as it should be.
    pub fn next<'i>(&mut self, input: &'i [u8]) -> Result<(usize, &'i [u8]), BadBody> {
        match self {
            Self::Done => Ok((0, &[])),
            Self::UntilClose => Ok((input.len(), input)),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok((taken, &input[..taken]))
            }
            Self::Chunked(_) => self.next_of_chunks(input),
        }
    }

    fn next_of_chunks<'i>(&mut self, input: &'i [u8]) -> Result<(usize, &'i [u8]), BadBody> {
        let mut taken = 0;
        while let (Self::Chunked(chunk), true) = (*self, taken < input.len()) {
            if let Chunk(Place::Data { left }) = chunk {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - taken);
                let left = left - count as u64;
                let place = if left == 0 { Place::DataCr } else { Place::Data { left } };
                *self = Self::Chunked(Chunk(place));
                return Ok((taken + count, &input[taken..taken + count]));
            }
            *self = chunk.0.step(input[taken])?;
            taken += 1;
        }
        Ok((taken, &[]))
    }
}

impl Place {
    /// Goes one byte of framing on.
    fn step(self, byte: u8) -> Result<Body, BadBody> {
        let next = match (self, byte) {
            (Self::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(BadBody);
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(BadBody),
            (Self::Size { size, .. }, b'\r') => Self::LineEnd { size },
            (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension { size, seen: 0 },
            (Self::Extension { size, .. }, b'\r') => Self::LineEnd { size },
            (Self::Extension { size, seen }, byte) if seen < SMALL_PRINT_MAX && is_text(byte) => {
                Self::Extension { size, seen: seen + 1 }
            }
            (Self::LineEnd { size: 0 }, b'\n') => Self::Trailer { seen: 0, empty: true },
            (Self::LineEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer { seen, empty }, b'\r') => Self::TrailerLf { seen, empty },
            (Self::Trailer { seen, .. }, byte) if seen < SMALL_PRINT_MAX && is_text(byte) => {
                Self::Trailer { seen: seen + 1, empty: false }
            }
            (Self::TrailerLf { empty: true, .. }, b'\n') => return Ok(Body::Done),
            (Self::TrailerLf { seen, .. }, b'\n') => Self::Trailer { seen, empty: true },
            _ => return Err(BadBody),
        };
        Ok(Body::Chunked(Chunk(next)))
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Writes data as one chunk; none for no data, for that would be the end.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut left = data.len();
    while left > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// What ends a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests;
