//! CRC-32C (Castagnoli), as headers of the PROXY protocol carry it. Source: RFC 3720, B.4.

/// The polynomial 0x1edc6f41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = (rest >> 1) ^ (POLYNOMIAL * (rest & 1));
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// The checksum of all parts in a row.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |rest: u32, byte| (rest >> 8) ^ TABLE[usize::from(rest as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::crc;

    #[test]
    fn examples_of_the_standard() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc(&[]), 0);
        assert_eq!(crc(&[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(crc(&[&rising]), 0x46dd_794e);
        assert_eq!(crc(&[&falling]), 0x113f_db5c);
    }
}
