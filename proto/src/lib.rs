//! The public contract of `channeld`: what its .proto files say, as generated code, and nothing else.
//!
//! The files lie in `channeld/v1/` (the API for a node's owner) and `channeld/peer/v1/` (the carrier between nodes).

/// The API for a node's owner.
pub mod v1 {
    tonic::include_proto!("channeld.v1");
}

/// The carrier between nodes.
pub mod peer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("channeld.peer.v1");
    }
}

/// All .proto files with their comments as an encoded `google.protobuf.FileDescriptorSet`: for reflection, and for the
/// JSON mapping.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

#[cfg(test)]
mod tests;
