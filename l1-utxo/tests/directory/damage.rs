//! Ways to harm a file.

use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Removed,
    Emptied,
    CutInHalf,
    CutByOne,
    CutByHundred,
    /// A bit at so many 16ths of its length.
    Bent(usize),
    Zeroed,
    Garbage,
    Longer,
    /// The second half zeros, as a lost page leaves it.
    HalfZeroed,
    IsFolder,
}

impl Damage {
    pub const ALL: &'static [Self] = &[
        Self::Removed,
        Self::Emptied,
        Self::CutInHalf,
        Self::CutByOne,
        Self::CutByHundred,
        Self::Bent(0),
        Self::Bent(1),
        Self::Bent(4),
        Self::Bent(8),
        Self::Bent(12),
        Self::Bent(15),
        Self::Zeroed,
        Self::Garbage,
        Self::Longer,
        Self::HalfZeroed,
        Self::IsFolder,
    ];

    /// `false` where there is nothing to harm in this way.
    pub fn apply(self, file: &Path) -> bool {
        let bytes = std::fs::read(file).unwrap();
        let mut harmed = bytes.clone();
        let half = bytes.len() / 2;
        match self {
            Self::Removed | Self::IsFolder => {
                std::fs::remove_file(file).unwrap();
                if self == Self::IsFolder {
                    std::fs::create_dir(file).unwrap();
                }
                return true;
            }
            Self::Emptied => harmed.clear(),
            Self::CutInHalf => harmed.truncate(half),
            Self::CutByOne => drop(harmed.pop()),
            Self::CutByHundred => harmed.truncate(bytes.len().saturating_sub(100)),
            Self::Bent(part) => {
                if let Some(byte) = harmed.get_mut(bytes.len() * part / 16) {
                    *byte ^= 0x04;
                }
            }
            Self::Zeroed => harmed.fill(0),
            Self::Garbage => {
                harmed.iter_mut().enumerate().for_each(|(place, byte)| *byte = (place * 31 % 251) as u8 ^ 0x5a)
            }
            Self::Longer => harmed.extend([0xab; 64]),
            Self::HalfZeroed => harmed[half..].fill(0),
        }
        std::fs::write(file, &harmed).unwrap();
        harmed != bytes
    }
}
