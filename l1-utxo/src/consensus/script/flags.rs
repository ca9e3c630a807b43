//! Which rules apply: Bitcoin Core's script verification flags (`interpreter.h`), with Core's names and bits.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of script verification flags. Every flag only ever forbids more: what passes under `A | B` passes under `A`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScriptFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl ScriptFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every flag with Core's name for it, in the order of the bits.
            pub const NAMED: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

flags! {
    /// Evaluate the redeem script of pay-to-script-hash outputs (BIP 16).
    P2SH = 0;
    /// Signatures are strict DER with a defined hash type, public keys compressed or uncompressed.
    STRICTENC = 1;
    /// Signatures are strict DER (BIP 66).
    DERSIG = 2;
    /// The S of a signature is at most half the order of the curve.
    LOW_S = 3;
    /// The extra element that `OP_CHECKMULTISIG` takes is empty (BIP 147).
    NULLDUMMY = 4;
    /// The scriptSig only pushes.
    SIGPUSHONLY = 5;
    /// Pushes and numbers are encoded in the shortest way.
    MINIMALDATA = 6;
    /// An executed `OP_NOP1`, `OP_NOP4` … `OP_NOP10` fails.
    DISCOURAGE_UPGRADABLE_NOPS = 7;
    /// Exactly one element is left at the end; only with `P2SH` and `WITNESS`.
    CLEANSTACK = 8;
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP 65).
    CHECKLOCKTIMEVERIFY = 9;
    /// `OP_CHECKSEQUENCEVERIFY` (BIP 112).
    CHECKSEQUENCEVERIFY = 10;
    /// Segregated witness (BIP 141, 143); only with `P2SH`.
    WITNESS = 11;
    /// Spends of unknown witness programs fail.
    DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM = 12;
    /// The argument of `OP_IF` and `OP_NOTIF` in a v0 script is empty or exactly 0x01.
    MINIMALIF = 13;
    /// A signature that fails a check is empty.
    NULLFAIL = 14;
    /// Public keys in v0 scripts are compressed.
    WITNESS_PUBKEYTYPE = 15;
    /// `OP_CODESEPARATOR`, and a signature found in its own script code, fail in legacy scripts.
    CONST_SCRIPTCODE = 16;
    /// Taproot and tapscript (BIP 341, 342).
    TAPROOT = 17;
    /// Unknown taproot leaf versions fail.
    DISCOURAGE_UPGRADABLE_TAPROOT_VERSION = 18;
    /// `OP_SUCCESSx` fails.
    DISCOURAGE_OP_SUCCESS = 19;
    /// Unknown types of public keys in tapscript fail.
    DISCOURAGE_UPGRADABLE_PUBKEYTYPE = 20;
}

impl ScriptFlags {
    /// No rule beyond the first release's.
    pub const NONE: Self = Self(0);

    /// What blocks must obey once all soft forks are active (Core: `MANDATORY_SCRIPT_VERIFY_FLAGS`).
    pub const CONSENSUS: Self = Self(
        Self::P2SH.0
            | Self::DERSIG.0
            | Self::NULLDUMMY.0
            | Self::CHECKLOCKTIMEVERIFY.0
            | Self::CHECKSEQUENCEVERIFY.0
            | Self::WITNESS.0
            | Self::TAPROOT.0,
    );

    /// What the mempool asks for (Core: `STANDARD_SCRIPT_VERIFY_FLAGS`).
    pub const STANDARD: Self = Self(
        Self::CONSENSUS.0
            | Self::STRICTENC.0
            | Self::MINIMALDATA.0
            | Self::DISCOURAGE_UPGRADABLE_NOPS.0
            | Self::CLEANSTACK.0
            | Self::MINIMALIF.0
            | Self::NULLFAIL.0
            | Self::LOW_S.0
            | Self::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM.0
            | Self::WITNESS_PUBKEYTYPE.0
            | Self::CONST_SCRIPTCODE.0
            | Self::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION.0
            | Self::DISCOURAGE_OP_SUCCESS.0
            | Self::DISCOURAGE_UPGRADABLE_PUBKEYTYPE.0,
    );

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is in this set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This set without the flags of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits, as in Core's `interpreter.h`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flags of these bits; bits without a name are dropped.
    pub const fn from_bits_truncate(bits: u32) -> Self {
        Self(bits & ((1 << 21) - 1))
    }

    /// The flag of this name (Core's, without the prefix `SCRIPT_VERIFY_`).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
    }

    /// The names of the flags in this set, by alphabet as Core lists them (`GetScriptFlagNames`).
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = Self::NAMED.iter().filter(|(_, flag)| self.contains(*flag));
        let mut names: Vec<&str> = named.map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.into_iter()
    }
}

impl BitOr for ScriptFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ScriptFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for ScriptFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_those_of_core() {
        assert_eq!(ScriptFlags::CONSENSUS.bits(), 0x20e15);
        assert!(ScriptFlags::STANDARD.contains(ScriptFlags::CONSENSUS));
        assert!(!ScriptFlags::STANDARD.contains(ScriptFlags::SIGPUSHONLY));
        let all = ScriptFlags::from_bits_truncate(u32::MAX);
        assert_eq!(all.without(ScriptFlags::STANDARD), ScriptFlags::SIGPUSHONLY);
        assert_eq!(all.names().count(), 21);
    }

    #[test]
    fn names_go_both_ways() {
        for name in ScriptFlags::CONSENSUS.names() {
            assert!(ScriptFlags::from_name(name).is_some_and(|flag| ScriptFlags::CONSENSUS.contains(flag)));
        }
        assert_eq!(ScriptFlags::from_name("BOGUS"), None);
        assert_eq!((ScriptFlags::P2SH | ScriptFlags::DERSIG).names().collect::<Vec<_>>(), ["DERSIG", "P2SH"]);
    }
}
