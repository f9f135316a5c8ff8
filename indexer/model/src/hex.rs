//! Bytes as lower-case hexadecimal digits, quickly: every URL holds two ids.

use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes two digits a byte, of at most 16 bytes.
pub(crate) fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let len = bytes.len().min(16) * 2;
    f.write_str(std::str::from_utf8(&digits[..len]).unwrap_or_default())
}
