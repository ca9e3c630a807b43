//! Chain data as JSON, field by field and in the order of Bitcoin Core (`core_io.cpp`, `rpc/blockchain.cpp`).
//!
//! Conversion only: nothing here looks anything up.

mod block;
mod script;
mod template;
mod transaction;

use std::str::FromStr;

use serde_json::{Number, Value};

pub use block::{BlockView, block, difficulty, header, target_hex};
pub use script::{address, asm, descriptor, script_pubkey};
pub use template::{TemplateText, template};
pub use transaction::{Detail, decoded, transaction};

/// Appends bytes as hex digits.
pub fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
}

/// Satoshi as BTC with eight decimals.
pub fn amount(sat: u64) -> Value {
    number(&format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000))
}

/// Satoshi, possibly negative, as BTC with eight decimals.
pub fn signed_amount(sat: i64) -> Value {
    let sign = if sat < 0 { "-" } else { "" };
    let sat = sat.unsigned_abs();
    number(&format!("{sign}{}.{:08}", sat / 100_000_000, sat % 100_000_000))
}

/// A feerate in sat/kvB as BTC/kvB.
pub fn feerate(sat_per_kvb: u64) -> Value {
    amount(sat_per_kvb)
}

/// A number that is to be printed exactly so.
fn number(text: &str) -> Value {
    Value::Number(Number::from_str(text).expect("callers format numbers"))
}

/// A number with 16 significant digits at most, as C++ prints a double (`%.16g`).
pub fn double(value: f64) -> Value {
    const DIGITS: i32 = 16;
    if value == 0.0 || !value.is_finite() {
        return Value::from(0);
    }
    let scientific = format!("{value:.15e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent = i32::from_str(exponent).unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        let fixed = format!("{value:.decimals$}");
        let fixed = if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.') } else { &fixed };
        return number(fixed);
    }
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let sign = if exponent < 0 { '-' } else { '+' };
    number(&format!("{mantissa}e{sign}{:02}", exponent.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_like_cores() {
        assert_eq!(amount(1).to_string(), "0.00000001");
        assert_eq!(amount(5_000_000_000).to_string(), "50.00000000");
        assert_eq!(double(4.656_542_373_906_925e-10).to_string(), "4.656542373906925e-10");
        assert_eq!(double(1.0).to_string(), "1");
        assert_eq!(double(0.000_24).to_string(), "0.00024");
        assert_eq!(double(1234.5).to_string(), "1234.5");
    }
}
