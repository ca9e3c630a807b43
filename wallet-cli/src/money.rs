//! Amounts as people write and read them.

use std::fmt::Write;

use crate::failure::Failure;

/// Satoshi in a coin.
pub const COIN: u64 = 100_000_000;

/// `1000` or `1000sat`, `1500msat`, `0.00001btc`, in millisatoshi.
///
/// # Errors
/// What is no amount, or does not fit.
pub fn parse_msat(text: &str) -> Result<u64, String> {
    let plain = text.trim().replace(['_', ','], "").to_lowercase();
    let figure = |digits: &str| digits.trim().parse::<u64>().map_err(|_| expected(text));
    if let Some(digits) = plain.strip_suffix("msat") {
        return figure(digits);
    }
    if let Some(coins) = plain.strip_suffix("btc") {
        let sat = parse_coins(coins.trim()).ok_or_else(|| expected(text))?;
        return sat.checked_mul(1_000).ok_or_else(|| expected(text));
    }
    let sat = figure(plain.strip_suffix("sat").unwrap_or(&plain))?;
    sat.checked_mul(1_000).ok_or_else(|| expected(text))
}

/// The same in whole satoshi.
///
/// # Errors
/// What is no amount, does not fit, or is not whole.
pub fn parse_sat(text: &str) -> Result<u64, String> {
    match parse_msat(text)? {
        msat if msat % 1_000 == 0 => Ok(msat / 1_000),
        _ => Err(format!("{text:?} is not a whole number of satoshi")),
    }
}

fn expected(text: &str) -> String {
    format!("{text:?} is not an amount: write 1000 (satoshi), 1500msat or 0.001btc")
}

/// A decimal number of coins, as Bitcoin Core writes it, in satoshi: exact.
pub fn parse_coins(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 8 || !part.bytes().all(|byte| byte.is_ascii_digit()) || whole.is_empty() {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<8}").parse().ok()?;
    whole.checked_mul(COIN)?.checked_add(part)
}

/// A JSON number of coins in satoshi.
///
/// # Errors
/// Where the answer holds something else.
pub fn coins_of(value: &serde_json::Value) -> Result<u64, Failure> {
    let text = value.to_string();
    parse_coins(&text).ok_or_else(|| Failure::defect(format!("the chain answers {text} where an amount is due")))
}

/// `1,234,567`.
pub fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234 sat`.
pub fn sat(figure: u64) -> String {
    format!("{} sat", grouped(figure))
}

/// `1,234.567 sat`, or `1,234 sat` where it is whole.
pub fn msat(figure: u64) -> String {
    let mut text = grouped(figure / 1_000);
    if !figure.is_multiple_of(1_000) {
        // Writing to a string does not fail.
        let _ = write!(text, ".{:03}", figure % 1_000);
    }
    text + " sat"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(parse_msat("1000"), Ok(1_000_000));
        assert_eq!(parse_msat("1_000 sat"), Ok(1_000_000));
        assert_eq!(parse_msat("1500msat"), Ok(1_500));
        assert_eq!(parse_msat("0.00000001btc"), Ok(1_000));
        assert_eq!(parse_sat("21000000btc"), Ok(2_100_000_000_000_000));
        for wrong in ["", "-1", "1.5", "abc", "1e8", "0.000000001btc", "99999999999999999999"] {
            assert!(parse_msat(wrong).is_err(), "{wrong}");
        }
        assert!(parse_sat("1500msat").is_err());
    }

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(sat(0), "0 sat");
        assert_eq!(sat(1_234_567), "1,234,567 sat");
        assert_eq!(msat(1_234_567), "1,234.567 sat");
        assert_eq!(msat(5_000), "5 sat");
    }
}
