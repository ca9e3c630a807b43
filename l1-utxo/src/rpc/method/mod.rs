//! The methods, by Core's categories, each with its parameters.

pub mod block;
mod chainstate;
mod control;
mod generate;
mod mempool;
mod mining;
mod network;
mod peer;
mod psbt;
mod query;
pub mod rawtransaction;
mod script;
mod wait;

use std::fmt::Write;
use std::pin::Pin;

use serde_json::Value;

use super::Context;
use super::argument::{Argument, Kind, Params};
use super::dialect::RpcError;

/// What a method answers, later.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Value, RpcError>> + Send + 'a>>;

/// One method of the API.
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Core's category, for `help`; `hidden` is not listed.
    pub category: &'static str,
    /// Its parameters.
    pub arguments: &'static [Argument],
    /// One sentence for `help`.
    pub about: &'static str,
    /// Its work.
    pub run: for<'a> fn(&'a Context, Params) -> Answer<'a>,
}

/// All methods.
fn all() -> impl Iterator<Item = &'static Method> {
    [
        block::METHODS,
        chainstate::METHODS,
        wait::METHODS,
        control::METHODS,
        generate::METHODS,
        mining::METHODS,
        network::METHODS,
        peer::METHODS,
    ]
    .into_iter()
    .flatten()
    .chain(mempool::methods())
    .chain(query::methods())
    .chain(psbt::methods())
    .chain(rawtransaction::methods())
    .chain(script::methods())
}

/// What a method answers as JSON text, later.
pub type Text<'a> = Pin<Box<dyn Future<Output = Result<String, RpcError>> + Send + 'a>>;

/// The way around `Value` for methods whose answers are large.
pub fn text_of(name: &str) -> Option<for<'a> fn(&'a Context, Params) -> Text<'a>> {
    match name {
        "getblocktemplate" => Some(|cx, params| Box::pin(mining::getblocktemplate(cx, params))),
        _ => None,
    }
}

/// Calls of this method that follow each other in a batch are carried out together.
pub const TOGETHER: &str = "sendrawtransaction";

pub use network::decode_address;
pub use query::Scan;
pub use rawtransaction::send_together;

/// The method of this name.
pub fn find(name: &str) -> Option<&'static Method> {
    all().find(|method| method.name == name)
}

impl Method {
    /// `getblock "blockhash" ( verbosity )`, as Core writes it.
    fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        let mut is_open = false;
        for argument in self.arguments.iter().filter(|argument| argument.shape != "-") {
            if is_open == argument.required {
                usage.push_str(if is_open { " )" } else { " (" });
                is_open = !is_open;
            }
            let name = argument.names.split('|').next().unwrap_or_default();
            usage.push(' ');
            match argument.kind {
                _ if !argument.shape.is_empty() => write!(usage, "{}", argument.shape),
                Kind::Text => write!(usage, "\"{name}\""),
                Kind::List => write!(usage, "[{name},...]"),
                Kind::Object | Kind::Number | Kind::Bool | Kind::Any => write!(usage, "{name}"),
            }
            .expect("writing to a string does not fail");
        }
        if is_open {
            usage.push_str(" )");
        }
        usage
    }

    /// What `help METHOD` answers, and a call with a wrong number of parameters.
    pub fn help(&self) -> String {
        let mut help = format!("{}\n\n{}\n", self.usage(), self.about);
        if !self.arguments.is_empty() {
            help.push_str("\nArguments:\n");
        }
        for (index, argument) in self.arguments.iter().enumerate() {
            let name = argument.names.split('|').next().unwrap_or_default();
            let need = if argument.required { "required" } else { "optional" };
            writeln!(help, "{}. {name} ({need}): {}", index + 1, argument.about)
                .expect("writing to a string does not fail");
        }
        help
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_usage_reads_like_cores() {
        let names: Vec<&str> = all().map(|method| method.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(find("getblock").unwrap().usage(), "getblock \"blockhash\" ( verbosity )");
        assert_eq!(find("getblockcount").unwrap().usage(), "getblockcount");
    }
}
