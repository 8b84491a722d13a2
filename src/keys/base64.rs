//! Base64 as OpenSSH reads it: the C library's `b64_pton` behind `sshbuf_b64tod`.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The six bits of a character, `None` for every other byte.
pub(super) fn value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// `isspace` of the C locale; such bytes are skipped wherever they stand.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Decodes strictly: white space is skipped, padding must be right, unused bits must be zero, nothing may follow.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut state) = (0_u8, 0_u8);
    let mut bytes = text.iter().copied().filter(|&byte| !is_space(byte));
    while let Some(byte) = bytes.next() {
        if byte == b'=' {
            let padded = match state {
                2 => bytes.next() == Some(b'=') && bytes.next().is_none(),
                3 => bytes.next().is_none(),
                _ => false,
            };
            return (padded && bits == 0).then_some(out);
        }
        push(&mut out, &mut bits, &mut state, value(byte)?);
    }
    (state == 0).then_some(out)
}

/// Decodes as much as there is: up to the first byte that is no base64, or `limit` characters. For looking at what
/// may be a damaged key; sshd is never that lenient.
pub(super) fn decode_prefix(text: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut state) = (0_u8, 0_u8);
    for six in text.iter().take(limit).map_while(|&byte| value(byte)) {
        push(&mut out, &mut bits, &mut state, six);
    }
    out
}

/// One more character: `bits` holds what is left over, at the high end.
fn push(out: &mut Vec<u8>, bits: &mut u8, state: &mut u8, six: u8) {
    match *state {
        0 => *bits = six << 2,
        1 => {
            out.push(*bits | six >> 4);
            *bits = six << 4;
        }
        2 => {
            out.push(*bits | six >> 2);
            *bits = six << 6;
        }
        _ => {
            out.push(*bits | six);
            *bits = 0;
        }
    }
    *state = (*state + 1) % 4;
}

/// Encodes on one line, padded.
pub(crate) fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4_usize {
            let six = (group >> (18 - 6 * index)) & 63;
            out.push(if index > chunk.len() { b'=' } else { ALPHABET[six as usize] });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_unused_bits_are_as_strict_as_in_b64_pton() {
        assert_eq!(decode(b"AAAA"), Some(vec![0, 0, 0]));
        assert_eq!(decode(b" A A\tA\rA\n"), Some(vec![0, 0, 0]));
        assert_eq!(decode(b"AA=="), Some(vec![0]));
        assert_eq!(decode(b"AA= = \r"), Some(vec![0]));
        assert_eq!(decode(b""), Some(vec![]));
        for bad in
            [&b"AA="[..], b"A===", b"AAA", b"AA", b"AAAA=", b"AAA==", b"AA==A", b"AB==", b"AAB=", b"AA-A"]
        {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            let text = encode(&bytes);
            proptest::prop_assert_eq!(decode(&text), Some(bytes.clone()));
            proptest::prop_assert_eq!(decode_prefix(&text, text.len()), bytes);
        }
    }
}
