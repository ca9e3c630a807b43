//! Signature hashes, and what they share within one transaction.

use bitcoin::{Transaction, TxOut};

use super::SignatureCache;

/// A transaction with the outputs that it spends, and what the signature hashes of its inputs share.
///
/// Shared parts are computed on first use, once, whichever thread comes first: `&TransactionCache` goes to all of them.
pub struct TransactionCache<'a> {
    #[allow(dead_code)]
    transaction: &'a Transaction,
    #[allow(dead_code)]
    prevouts: Vec<&'a TxOut>,
    #[allow(dead_code)]
    signatures: Option<&'a SignatureCache>,
}

impl<'a> TransactionCache<'a> {
    /// The transaction and the outputs its inputs spend, in the order of the inputs.
    ///
    /// Panics if their numbers differ.
    pub fn new(transaction: &'a Transaction, prevouts: Vec<&'a TxOut>) -> Self {
        assert_eq!(transaction.input.len(), prevouts.len(), "one spent output for each input");
        Self { transaction, prevouts, signatures: None }
    }

    /// Looks up and stores valid signatures in `signatures`, so that a block does not verify again what the mempool did.
    #[must_use]
    pub fn with_signature_cache(self, signatures: &'a SignatureCache) -> Self {
        Self { signatures: Some(signatures), ..self }
    }
}
