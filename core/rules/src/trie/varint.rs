//! Numbers in a row: seven bits a byte, lowest first, one spelling for each.

use super::error::Corrupt;

/// Appends the number, seven bits a byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes being read.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.rest.split_first().ok_or(Corrupt("too short"))?;
        self.rest = rest;
        Ok(first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Corrupt("number too large"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One spelling per number, so that equal nodes are equal bytes.
                if byte == 0 && shift != 0 {
                    return Err(Corrupt("padded number"));
                }
                return Ok(number);
            }
        }
        Err(Corrupt("number too long"))
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, Corrupt> {
        u32::try_from(self.varint()?).map_err(|_| Corrupt("number too large"))
    }

    pub(super) fn end(&self) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(Corrupt("bytes left over")) }
    }
}
