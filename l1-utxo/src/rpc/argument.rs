//! Parameters of a call: named to positional, their JSON types, and the readings every method shares, with Core's words.

use std::str::FromStr;

use bitcoin::Amount;
use bitcoin::hashes::sha256d;
use serde_json::{Map, Value};

use super::dialect::{RpcError, code};

/// What Core expects of a parameter's JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string, hex or not.
    Text,
    /// A number.
    Number,
    /// true or false.
    Bool,
    /// A list.
    List,
    /// An object.
    Object,
    /// Amounts and the parameters whose type the method looks at itself.
    Any,
}

/// One parameter of a method.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its names, the first one the documented one: `verbosity|verbose`.
    pub names: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether a call without it is refused.
    pub required: bool,
    /// For an options object: its fields, which may be given as named parameters of their own.
    pub options: &'static [&'static str],
    /// One line for `help`.
    pub about: &'static str,
    /// How the first line of `help` shows it, where its kind does not say: `["rawtx",...]`; `-` for not at all.
    pub shape: &'static str,
}

impl Argument {
    /// This argument with a form of its own in the first line of `help`.
    pub const fn shown(self, shape: &'static str) -> Self {
        Self { shape, ..self }
    }
}

/// A parameter that must be given.
pub const fn required(names: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { names, kind, required: true, options: &[], about, shape: "" }
}

/// A parameter that may be left out or null.
pub const fn optional(names: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { required: false, ..required(names, kind, about) }
}

/// Positional parameters, checked against the method's list.
#[derive(Debug, Clone)]
pub struct Params(Vec<Value>);

static NULL: Value = Value::Null;

impl Params {
    /// Reads an array, or an object by the rules of Core's `transformNamedArguments`.
    pub fn positional(params: Value, arguments: &[Argument]) -> Result<Self, RpcError> {
        match params {
            Value::Array(values) => Ok(Self(values)),
            Value::Object(named) => from_named(named, arguments).map(Self),
            _ => Ok(Self(Vec::new())),
        }
    }

    /// Whether there are as many as the method takes.
    pub fn count_fits(&self, arguments: &[Argument]) -> bool {
        let least = arguments.iter().rposition(|argument| argument.required).map_or(0, |last| last + 1);
        (least..=arguments.len()).contains(&self.0.len())
    }

    /// Core's "Wrong type passed", which lists every parameter of the wrong type.
    pub fn check_types(&self, arguments: &[Argument]) -> Result<(), RpcError> {
        let mismatches: Vec<String> = arguments
            .iter()
            .enumerate()
            .filter_map(|(position, argument)| {
                let value = self.get(position);
                if value.is_null() && !argument.required {
                    return None;
                }
                let wrong = mismatch(value, argument.kind)?;
                let label = format!("Position {} ({})", position + 1, argument.names);
                Some(format!("    {}: {}", Value::from(label), Value::from(wrong)))
            })
            .collect();
        if mismatches.is_empty() {
            return Ok(());
        }
        let message = format!("Wrong type passed:\n{{\n{}\n}}", mismatches.join(",\n"));
        Err(RpcError::new(code::TYPE, message))
    }

    /// The parameter, null when absent.
    pub fn get(&self, position: usize) -> &Value {
        self.0.get(position).unwrap_or(&NULL)
    }

    /// All of them.
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Whether it was given and is not null.
    pub fn has(&self, position: usize) -> bool {
        !self.get(position).is_null()
    }

    /// A string.
    pub fn text(&self, position: usize) -> Result<&str, RpcError> {
        text(self.get(position))
    }

    /// A signed 32-bit number.
    pub fn int(&self, position: usize) -> Result<i32, RpcError> {
        int(self.get(position))
    }

    /// A signed 32-bit number, or what stands in for it.
    pub fn int_or(&self, position: usize, default: i32) -> Result<i32, RpcError> {
        if self.has(position) { self.int(position) } else { Ok(default) }
    }

    /// A boolean, or what stands in for it.
    pub fn bool_or(&self, position: usize, default: bool) -> Result<bool, RpcError> {
        match self.get(position) {
            Value::Null => Ok(default),
            Value::Bool(value) => Ok(*value),
            other => Err(wrong_type(other, "bool")),
        }
    }

    /// A list.
    pub fn list(&self, position: usize) -> Result<&[Value], RpcError> {
        list(self.get(position))
    }

    /// A block hash or txid; `name` is how Core calls it in its message.
    pub fn hash(&self, position: usize, name: &str) -> Result<sha256d::Hash, RpcError> {
        hash(self.get(position), name)
    }

    /// Core's `ParseVerbosity` where booleans are allowed.
    pub fn verbosity(&self, position: usize, default: i32) -> Result<i32, RpcError> {
        match self.get(position) {
            Value::Null => Ok(default),
            Value::Bool(verbose) => Ok(i32::from(*verbose)),
            number => int(number),
        }
    }
}

/// A JSON string, or Core's type error.
pub fn text(value: &Value) -> Result<&str, RpcError> {
    value.as_str().ok_or_else(|| wrong_type(value, "string"))
}

/// A JSON list, or Core's type error.
pub fn list(value: &Value) -> Result<&[Value], RpcError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(value, "array"))
}

/// A JSON object, or Core's type error.
pub fn object(value: &Value) -> Result<&Map<String, Value>, RpcError> {
    value.as_object().ok_or_else(|| wrong_type(value, "object"))
}

/// A 32-bit JSON integer.
pub fn int(value: &Value) -> Result<i32, RpcError> {
    i32::try_from(integer(value)?).map_err(|_| out_of_range())
}

/// A 64-bit JSON integer.
pub fn integer(value: &Value) -> Result<i64, RpcError> {
    match value {
        Value::Number(number) => number.as_i64().ok_or_else(out_of_range),
        other => Err(wrong_type(other, "number")),
    }
}

fn out_of_range() -> RpcError {
    RpcError::new(code::MISC, "JSON integer out of range")
}

/// 64 hex digits, most significant byte first as block hashes and txids are shown (Core's `ParseHashV`).
pub fn hash(value: &Value, name: &str) -> Result<sha256d::Hash, RpcError> {
    let hex = text(value)?;
    if let Ok(hash) = sha256d::Hash::from_str(hex) {
        return Ok(hash);
    }
    let message = if hex.len() == 64 {
        format!("{name} must be hexadecimal string (not '{hex}')")
    } else {
        format!("{name} must be of length 64 (not {}, for '{hex}')", hex.len())
    };
    Err(RpcError::new(code::INVALID_PARAMETER, message))
}

/// BTC as a number or a string, at most 8 decimals, to satoshi (Core's `AmountFromValue`).
pub fn amount(value: &Value) -> Result<Amount, RpcError> {
    let digits = match value {
        Value::Number(number) => number.to_string(),
        Value::String(digits) => digits.clone(),
        _ => return Err(RpcError::new(code::TYPE, "Amount is not a number or string")),
    };
    let sat = fixed_point(&digits).ok_or_else(|| RpcError::new(code::TYPE, "Invalid amount"))?;
    u64::try_from(sat)
        .ok()
        .map(Amount::from_sat)
        .filter(|amount| *amount <= Amount::MAX_MONEY)
        .ok_or_else(|| RpcError::new(code::TYPE, "Amount out of range"))
}

/// A feerate in BTC/kvB below 1 (Core's `ParseFeeRate`), in sat/kvB.
pub fn feerate(value: &Value) -> Result<u64, RpcError> {
    let rate = amount(value)?;
    if rate >= Amount::ONE_BTC {
        let message = "Fee rates larger than or equal to 1BTC/kvB are not accepted";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    Ok(rate.to_sat())
}

/// JSON's number grammar to satoshi, exactly (Core's `ParseFixedPoint`): no digits beyond the eighth decimal but zeros, and
/// below 10^10 bitcoin.
fn fixed_point(text: &str) -> Option<i64> {
    const LIMIT: i128 = 999_999_999_999_999_999;
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent_of(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let mantissa = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - mantissa.len()).ok()?;
    let mantissa: i128 = if mantissa.is_empty() { 0 } else { mantissa.parse().ok().filter(|value| *value <= LIMIT)? };
    // A zero before the point is not counted, so that 0.00 has two zeros and two decimals.
    let zeros = if mantissa == 0 { i64::try_from(fraction.len()).ok()? } else { zeros };
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros + 8)?;
    let scale = 10i128.pow(u32::try_from(shift).ok().filter(|shift| *shift < 18)?);
    let value = mantissa.checked_mul(scale).filter(|value| *value <= LIMIT)?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// An optional sign and digits; what is beyond any use is refused.
fn exponent_of(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent: i64 = digits.parse().ok()?;
    Some(if negative { -exponent } else { exponent })
}

/// Core's `UniValue::type_error`.
pub fn wrong_type(value: &Value, expected: &str) -> RpcError {
    RpcError::new(code::TYPE, type_message(value, expected))
}

fn type_message(value: &Value, expected: &str) -> String {
    format!("JSON value of type {} is not of expected type {expected}", type_name(value))
}

/// Core's name of a JSON value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, kind: Kind) -> Option<String> {
    let expected = match kind {
        Kind::Any => return None,
        Kind::Text => "string",
        Kind::Number => "number",
        Kind::Bool => "bool",
        Kind::List => "array",
        Kind::Object => "object",
    };
    (type_name(value) != expected).then(|| type_message(value, expected))
}

fn from_named(mut named: Map<String, Value>, arguments: &[Argument]) -> Result<Vec<Value>, RpcError> {
    let doubled = |message: String| Err(RpcError::new(code::INVALID_PARAMETER, message));
    let mut values: Vec<Value> = Vec::new();
    let mut first_named: Option<(usize, &str)> = None;
    for (position, argument) in arguments.iter().enumerate() {
        let mut options = Map::new();
        for option in argument.options {
            if let Some(value) = named.remove(*option) {
                options.insert((*option).into(), value);
            }
        }
        let given = argument.names.split('|').find_map(|name| named.remove_entry(name));
        if let (Some((name, _)), Some(option)) = (&given, options.keys().next()) {
            return doubled(format!("Parameter {name} conflicts with parameter {option}"));
        }
        let value = match given {
            Some((_, value)) => value,
            None if !options.is_empty() => Value::Object(options),
            None => continue,
        };
        first_named.get_or_insert((position, argument.names));
        // Holes before a parameter are nulls; after the last one there is nothing, for some methods count.
        values.resize(position, Value::Null);
        values.push(value);
    }
    // Anything but a list under this name is dropped without a word.
    if let Some(Value::Array(positional)) = named.remove("args") {
        if let Some((position, name)) = first_named
            && position < positional.len()
        {
            return doubled(format!("Parameter {name} specified twice both as positional and named argument"));
        }
        let rest = values.split_off(positional.len().min(values.len()));
        values = positional;
        values.extend(rest);
    }
    if let Some(unknown) = named.keys().next() {
        return doubled(format!("Unknown named parameter {unknown}"));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARGUMENTS: &[Argument] = &[
        required("txid", Kind::Text, ""),
        optional("verbosity|verbose", Kind::Any, ""),
        Argument { options: &["deep"], ..optional("options", Kind::Object, "") },
    ];

    fn named(params: Value) -> Result<Vec<Value>, String> {
        Params::positional(params, ARGUMENTS).map(|params| params.0).map_err(|error| error.message)
    }

    #[test]
    fn named_parameters_find_their_places() {
        assert_eq!(named(json!({"txid": "a"})).unwrap(), [json!("a")]);
        assert_eq!(named(json!({"verbose": 1})).unwrap(), [Value::Null, json!(1)]);
        let deep = named(json!({"deep": true})).unwrap();
        assert_eq!(deep, [Value::Null, Value::Null, json!({"deep": true})]);
        assert_eq!(named(json!({"args": ["a"], "verbosity": 2})).unwrap(), [json!("a"), json!(2)]);
        assert_eq!(named(json!({"x": 1})).unwrap_err(), "Unknown named parameter x");
        assert_eq!(
            named(json!({"args": ["a", 1], "verbosity": 2})).unwrap_err(),
            "Parameter verbosity|verbose specified twice both as positional and named argument"
        );
        assert_eq!(
            named(json!({"options": {}, "deep": 2})).unwrap_err(),
            "Parameter options conflicts with parameter deep"
        );
    }

    #[test]
    fn types_are_named_as_core_names_them() {
        let params = Params(vec![json!(1)]);
        assert_eq!(
            params.check_types(ARGUMENTS).unwrap_err().message,
            "Wrong type passed:\n{\n    \"Position 1 (txid)\": \"JSON value of type number is not of expected type string\"\n}"
        );
    }

    #[test]
    fn amounts_are_exact() {
        let cases = [
            (json!("0.1"), Some(10_000_000)),
            (json!(1), Some(100_000_000)),
            (serde_json::from_str("1e-8").unwrap(), Some(1)),
            (serde_json::from_str("0.000000001").unwrap(), None),
            (serde_json::from_str("1.5E1").unwrap(), Some(1_500_000_000)),
            (json!("-1"), None),
            (json!("21000001"), None),
            (json!(true), None),
            (json!("1."), None),
            (json!(".5"), None),
            (json!("01"), None),
            (json!("+1"), None),
            (json!(" 1"), None),
            (json!(""), None),
            (json!("-"), None),
            (json!("-0"), Some(0)),
            (json!("0.000000010"), Some(1)),
            (json!("10e-9"), Some(1)),
            (json!("1e-9"), None),
            (json!("0e-9"), None),
            (json!("1E+2"), Some(10_000_000_000)),
            (json!("1e99999999999999999999"), None),
            (json!("20999999.99999999"), Some(2_099_999_999_999_999)),
        ];
        for (value, sat) in cases {
            assert_eq!(amount(&value).ok().map(Amount::to_sat), sat, "{value}");
        }
    }
}
