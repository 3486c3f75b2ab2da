//! Assignment: what a member of a group was given, as the members' own protocol writes it.
//!
//! The brokers pass it on without a look: a version, then each topic with its partitions, then whatever
//! the strategy adds (`ConsumerProtocolAssignment` in Kafka's message definitions). All numbers are
//! big-endian.

use domain::Partition;

/// The partitions of a topic, in the order of the bytes; `None` where these do not parse.
pub(super) fn of_topic(bytes: &[u8], topic: &str) -> Option<Vec<Partition>> {
    let mut bytes = bytes;
    if bytes.is_empty() {
        return Some(Vec::new()); // So it is while the group shares out.
    }
    let _version = take::<2>(&mut bytes)?;
    let topics = u32::from_be_bytes(take(&mut bytes)?);
    let mut found = Vec::new();
    for _ in 0..topics {
        let length = u16::from_be_bytes(take(&mut bytes)?);
        let name = bytes.split_off(..usize::from(length))?;
        let partitions = u32::from_be_bytes(take(&mut bytes)?);
        for _ in 0..partitions {
            let partition = u32::from_be_bytes(take(&mut bytes)?);
            // A log has no more than 16 bits can number.
            let of_log = u16::try_from(partition).ok().filter(|_| name == topic.as_bytes());
            found.extend(of_log.map(Partition));
        }
    }
    Some(found)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1, topic `a` with 0 and 2, topic `pulses` with 1 and 65,536, and 3 bytes of the strategy.
    const BYTES: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x02\0\x06pulses\0\0\0\x02\0\0\0\x01\0\x01\0\0\0\0\0\x03xyz";

    #[test]
    fn the_partitions_of_one_topic_are_found_among_others() {
        let of = |topic| of_topic(BYTES, topic).unwrap();
        assert_eq!(of("a"), [Partition(0), Partition(2)]);
        assert_eq!(of("pulses"), [Partition(1)]);
        assert_eq!(of("puls"), []);
        assert_eq!(of_topic(b"", "a"), Some(Vec::new()), "a member that was given nothing yet");
    }

    #[test]
    fn bytes_that_end_too_early_are_nothing() {
        let strategy = BYTES.len() - 7;
        for cut in 1..strategy {
            assert_eq!(of_topic(&BYTES[..cut], "a"), None, "{cut}");
        }
        assert!(of_topic(&BYTES[..strategy], "a").is_some());
        assert_eq!(of_topic(&[0xff; 16], "a"), None);
    }
}
