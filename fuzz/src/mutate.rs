//! Mutations: the next input out of known ones, by a seed.
//!
//! Both engines use them: the smoke run alone, and the guided run beside libFuzzer's own. They know
//! what libFuzzer does not: the words of a format, and that a stretch repeated a thousand times is
//! how quadratic work shows.

/// Longest input that is made.
pub const BYTES_MAX: usize = 64 << 10;

/// Numbers by a seed: SplitMix64, by Sebastiano Vigna.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts at a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, which is above 0.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// One of some things, or `None` where there are none.
    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        if things.is_empty() { None } else { things.get(self.below(things.len())) }
    }

    /// A stretch of an input of this length, of one byte to `most`.
    fn stretch(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        if length == 0 {
            return 0..0;
        }
        let start = self.below(length);
        start..(start + 1 + self.below(most)).min(length)
    }
}

/// Numbers at the edges of their types, where counts and lengths go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Makes the next input out of `input`. `words` are those of the format, `others` inputs to take
/// pieces from. The same arguments give the same bytes.
pub fn mutate(input: &mut Vec<u8>, random: &mut Random, words: &[&str], others: &[Vec<u8>]) {
    for _ in 0..=random.below(6) {
        one_change(input, random, words, others);
    }
    input.truncate(BYTES_MAX);
}

fn one_change(input: &mut Vec<u8>, random: &mut Random, words: &[&str], others: &[Vec<u8>]) {
    let length = input.len();
    let at = random.below(length + 1);
    match random.below(13) {
        0 if at < length => input[at] ^= 1 << random.below(8),
        1 if at < length => input[at] = random.number() as u8,
        2 => drop(input.drain(random.stretch(length, 16))),
        3 => drop(input.drain(random.stretch(length, 1_024))),
        4 => input.truncate(at),
        5 => {
            let made: Vec<u8> = (0..=random.below(8)).map(|_| random.number() as u8).collect();
            drop(input.splice(at..at, made));
        }
        6 => {
            let edge = random.one_of(&EDGES).copied().unwrap_or_default().to_le_bytes();
            let width = 1 << random.below(4);
            let end = (at + width).min(length);
            drop(input.splice(at..end, edge[..width].iter().copied()));
        }
        7 => {
            let stretch = random.stretch(length, 64);
            let copy = input[stretch].to_vec();
            drop(input.splice(at..at, copy));
        }
        // Seldom up to the end, because such inputs are slow.
        8 if random.below(16) == 0 => repeat(input, random),
        9 => {
            if let Some(other) = random.one_of(others) {
                let piece = other[random.stretch(other.len(), 256)].to_vec();
                let end = if random.below(2) == 0 { at } else { (at + piece.len()).min(length) };
                drop(input.splice(at..end, piece));
            }
        }
        10 => {
            let digits: Vec<usize> =
                (0..length).filter(|place| input[*place].is_ascii_digit()).collect();
            if let Some(place) = random.one_of(&digits) {
                input[*place] = b'0' + random.below(10) as u8;
            }
        }
        _ => {
            if let Some(word) = random.one_of(words) {
                let end = if random.below(2) == 0 { at } else { (at + word.len()).min(length) };
                drop(input.splice(at..end, word.bytes()));
            }
        }
    }
}

/// Repeats one stretch until the input is as long as may be, alike or with a running number in each
/// copy, so that names differ.
fn repeat(input: &mut Vec<u8>, random: &mut Random) {
    let stretch = random.stretch(input.len(), 64);
    if stretch.is_empty() {
        return;
    }
    let (end, copy) = (stretch.end, input[stretch].to_vec());
    let tail = input.split_off(end);
    let is_numbered = random.below(2) == 0;
    let at = random.below(copy.len());
    for number in 0usize.. {
        let number = if is_numbered { number.to_string() } else { String::new() };
        if input.len() + copy.len() + number.len() + tail.len() > BYTES_MAX {
            break;
        }
        input.extend_from_slice(&copy[..at]);
        input.extend_from_slice(number.as_bytes());
        input.extend_from_slice(&copy[at..]);
    }
    input.extend(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_seed_others() {
        let made = |seed| {
            let (mut random, others) = (Random::new(seed), [b"other input".to_vec()]);
            let mut input = b"key: 12\n".to_vec();
            let mut all = Vec::new();
            for _ in 0..200 {
                mutate(&mut input, &mut random, &["word"], &others);
                all.push(input.clone());
            }
            all
        };
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
        assert!(made(7).iter().any(|input| input.windows(4).any(|part| part == b"word")));
    }
}
