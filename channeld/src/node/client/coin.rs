//! The wallet's commands.

use std::sync::Arc;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, ScriptBuf};

use super::{Outcome, wallet_refusal};
use crate::node::Node;
use crate::node::api::command::{AmountOrAll, SendCoins};
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{Reply, Sent};
use crate::node::input::Effect;
use crate::units::FeeratePerKw;
use crate::wallet::{Draft, Spend};

/// The most that a person may ask to pay: ten times what any block has ever needed.
const MAX_FEERATE: FeeratePerKw = FeeratePerKw::new(250_000);

impl Node {
    pub(super) fn send_coins(&mut self, send: &SendCoins) -> Outcome {
        let script = self.script_of("address", &send.address)?;
        let feerate = self.checked_feerate(send.feerate)?;
        let spend = match send.amount {
            AmountOrAll::Sat(sat) if sat > Amount::MAX_MONEY.to_sat() => {
                return Err(Refusal::InvalidArgument { field: "amount_sat", description: "above 21e14".to_owned() });
            }
            AmountOrAll::Sat(sat) => {
                Spend::Exact(bitcoin::TxOut { value: Amount::from_sat(sat), script_pubkey: script })
            }
            AmountOrAll::All => Spend::All(script),
        };
        let (reserve, entropy) = (self.reserve(), self.draw("wallet/send"));
        let draft = self.wallet.build(&spend, feerate, reserve, &entropy).map_err(wallet_refusal)?;
        Ok(Reply::Sent(self.hand_out(draft, send.validate_only)))
    }

    fn hand_out(&mut self, draft: Draft, validate_only: bool) -> Sent {
        let amount = draft.transaction.output[draft.output_index as usize].value;
        let sent = Sent { txid: draft.transaction.compute_txid(), amount, fee: draft.fee };
        if validate_only {
            draft.inputs().for_each(|outpoint| self.wallet.unlock(outpoint));
            return sent;
        }
        self.wallet.apply_unconfirmed([Arc::new(draft.transaction.clone())], self.moment.now.seconds());
        self.turns.push(Effect::Broadcast(vec![draft.transaction]));
        sent
    }

    /// The feerate asked for, or an estimate for six blocks.
    pub(super) fn checked_feerate(&self, feerate: Option<FeeratePerKw>) -> Result<FeeratePerKw, Refusal> {
        match feerate {
            None => Ok(self.feerate(6)),
            Some(feerate) if (FeeratePerKw::FLOOR..=MAX_FEERATE).contains(&feerate) => Ok(feerate),
            Some(_) => Err(Refusal::InvalidArgument {
                field: "feerate",
                description: format!("{} to {MAX_FEERATE} sat/kW", FeeratePerKw::FLOOR),
            }),
        }
    }

    /// The script of an address of this network.
    pub(super) fn script_of(&self, field: &'static str, address: &str) -> Result<ScriptBuf, Refusal> {
        let address: Address<NetworkUnchecked> = address
            .parse()
            .map_err(|_| Refusal::InvalidArgument { field, description: "not an address".to_owned() })?;
        let checked = address.require_network(self.address_network());
        checked.map(|address| address.script_pubkey()).map_err(|_| Refusal::WrongNetwork { field })
    }
}
