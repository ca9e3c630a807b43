//! The cache file: the graph as it was, so that a start need not ask for all of it again. Losing it costs time and nothing else: a
//! damaged one is left aside with a warning.
//!
//! ```text
//! magic 8 · crc32c 4 and length 4 of what is beside the graph · that (postcard) · the graph (graph/encode.rs)
//! ```

use std::fs::{File, rename};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::funding::Outputs;
use super::machine::{Machine, Settings};
use crate::graph::{CacheError, Graph};
use crate::units::{BlockHeight, UnixTime};

const MAGIC: &[u8; 8] = b"CHGOSSP1";

/// What is in the file beside the graph.
#[derive(Serialize, Deserialize)]
struct Kept {
    height: BlockHeight,
    heard_until: UnixTime,
    outputs: Outputs,
}

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it is not of this version")]
    Magic,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its content is not understood")]
    Content,
    #[error("the graph in it: {0}")]
    Graph(#[from] CacheError),
}

/// The machine over what the file holds, or over an empty graph.
pub fn load(path: &Path, settings: Settings) -> Machine {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "the kept graph cannot be read: beginning anew");
            }
            return empty(settings);
        }
    };
    match read(&bytes, &settings) {
        Ok((kept, graph)) => {
            let mut machine = Machine::new(settings, graph, kept.outputs, Some(kept.heard_until));
            machine.set_height(kept.height);
            machine
        }
        Err(damage) => {
            tracing::warn!(path = %path.display(), %damage, "the kept graph is damaged: beginning anew");
            empty(settings)
        }
    }
}

fn empty(settings: Settings) -> Machine {
    let graph = Graph::new(settings.chain_hash);
    Machine::new(settings, graph, Outputs::default(), None)
}

fn read(bytes: &[u8], settings: &Settings) -> Result<(Kept, Graph), Damage> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Magic)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Checksum)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Checksum)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Damage::Checksum)?;
    // The graph has a checksum of its own.
    let (beside, graph) = rest.split_at_checked(length).ok_or(Damage::Checksum)?;
    if crc32c::crc32c(beside) != u32::from_le_bytes(*checksum) {
        return Err(Damage::Checksum);
    }
    let kept: Kept = postcard::from_bytes(beside).map_err(|_| Damage::Content)?;
    Ok((kept, Graph::decode(graph, settings.chain_hash)?))
}

/// Writes the file anew, whole or not at all.
///
/// # Errors
/// The file system's.
pub fn save(path: &Path, machine: &Machine, now: UnixTime) -> std::io::Result<()> {
    let (graph, outputs) = machine.kept();
    let kept = Kept {
        height: machine.height(),
        heard_until: if machine.status().is_synced { now } else { machine.heard_until() },
        outputs: outputs.clone(),
    };
    let beside = postcard::to_allocvec(&kept).map_err(std::io::Error::other)?;
    let length = u32::try_from(beside.len()).map_err(std::io::Error::other)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32c::crc32c(&beside).to_le_bytes())?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&beside)?;
    file.write_all(&graph.encode())?;
    file.sync_all()?;
    rename(new, path)
}
