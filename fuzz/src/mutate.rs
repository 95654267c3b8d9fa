//! Changes to an input: small ones mostly, words that a target knows, pieces of another input.

/// xorshift64*: good enough, and no crate.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Random(now.as_nanos() as u64 | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() >> 11) as usize % end }
    }
}

/// Numbers at which arithmetic goes wrong.
const EDGES: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
    512,
    4096,
];

pub fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(10) {
            0 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] ^= 1 << random.below(8);
            }
            1 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] = random.next() as u8;
            }
            2 | 3 => {
                // A number, of one of the usual widths, either way round.
                let width = 1 << random.below(4);
                let number =
                    EDGES[random.below(EDGES.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1);
                let bytes = number.to_le_bytes();
                let mut bytes = bytes[..width].to_vec();
                if random.below(2) == 0 {
                    bytes.reverse();
                }
                overwrite(input, at, &bytes);
            }
            4 => drop(input.splice(at..at, (0..1 + random.below(16)).map(|_| random.next() as u8)).count()),
            5 => {
                let end = (at + 1 + random.below(32)).min(input.len());
                input.drain(at.min(end)..end);
            }
            6 if !words.is_empty() => overwrite(input, at, words[random.below(words.len())]),
            7 if !words.is_empty() => {
                let _ = input.splice(at..at, words[random.below(words.len())].iter().copied()).count();
            }
            8 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(64)).min(other.len());
                overwrite(input, at, &other[from..to]);
            }
            _ if !other.is_empty() => {
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
            _ => input.push(random.next() as u8),
        }
    }
}

fn overwrite(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if input.len() < at + bytes.len() {
        input.resize(at + bytes.len(), 0);
    }
    input[at..at + bytes.len()].copy_from_slice(bytes);
}

/// FNV-1a, for names.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
