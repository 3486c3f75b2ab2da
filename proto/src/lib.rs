//! The wire: messages and services of `pulso.v1`, and the two hand-written readers of the hot path.
//!
//! - [`v1`]: everything generated from `proto/pulso/v1`, and [`DESCRIPTORS`] for reflection.
//! - [`walk`]: reads batches and pulses in place, without decoding them into owned messages.
//! - [`record`]: the log's records, built by ingest from slices and opened by the consumer.
//! - [`convert`]: the one place where wire types become domain types and back.
//! - [`totals`]: final totals, as they are published.

pub mod walk;
pub mod record;

pub mod convert;
pub mod totals;

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("pulso.v1");
}

/// Encoded `FileDescriptorSet` of everything in [`v1`], for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pulso.v1.binpb"));

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_file_names_its_package_in_other_languages() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let own: Vec<_> = files.iter().filter(|file| file.package() == "pulso.v1").collect();
        assert!(own.len() >= 9, "{}", own.len());
        for file in own {
            let name = file.name();
            let options = file.options.as_ref().unwrap_or_else(|| panic!("{name} has no options"));
            assert_eq!(options.csharp_namespace(), "Pulso.V1", "{name}");
            assert_eq!(options.go_package(), "pulso/v1;pulsov1", "{name}");
            assert_eq!(options.java_package(), "pulso.v1", "{name}");
            assert!(options.java_multiple_files(), "{name}");
            // Otherwise the class of a file takes the name of a message in it.
            assert!(options.java_outer_classname().ends_with("Proto"), "{name}");
        }
    }
}
