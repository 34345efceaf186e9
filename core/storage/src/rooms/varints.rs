//! Lists of local ids in one column: varints, seven bits a byte, lowest first.

/// Renders numbers.
pub(crate) fn encode(numbers: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        let mut rest = number as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Reads what [`encode`] wrote; `None` when the bytes are anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<i64>> {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    let mut shift = 0;
    for byte in bytes {
        if shift > 63 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number as i64);
            number = 0;
            shift = 0;
        }
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for numbers in [vec![], vec![0], vec![127, 128, 1 << 40], vec![i64::MAX, -1]] {
            assert_eq!(decode(&encode(numbers.iter().copied())), Some(numbers));
        }
        assert_eq!(decode(&[0x80]), None);
        assert_eq!(decode(&[0xff; 12]), None);
    }
}
