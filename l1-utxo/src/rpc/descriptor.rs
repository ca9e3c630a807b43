//! Output descriptors (BIP 380 and those that follow it): read, checked, and made into scripts.
//!
//! What needs keys is the crate `miniscript`'s; `addr`, `raw`, `combo` and `rawtr` are Core's own and simple.

use std::str::FromStr;
use std::sync::Arc;

use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::hex::FromHex;
use bitcoin::key::{TapTweak, XOnlyPublicKey};
use bitcoin::{PublicKey, ScriptBuf};
use miniscript::descriptor::checksum::desc_checksum;
use miniscript::descriptor::{DefiniteDescriptorKey, DescriptorSecretKey, KeyMap};
use miniscript::{Descriptor as Miniscript, DescriptorPublicKey, ForEachKey};
use serde_json::Value;

use super::argument;
use super::dialect::{RpcError, code};
use super::method::decode_address;
use super::render;
use super::sign::{Keystore, at_hardened, expand, has_hardened_range, is_derivable};

/// Children of a ranged descriptor that a scan takes by default.
const DEFAULT_RANGE: (u32, u32) = (0, 1_000);
/// Children in one call at most.
const MAX_RANGE: i64 = 1_000_000;
/// Characters of a checksum.
const CHECKSUM_LENGTH: usize = 8;

/// One descriptor.
#[derive(Debug, Clone)]
pub struct Descriptor {
    form: Form,
    /// As it is shown, with its checksum.
    pub text: String,
    /// Whether it held private keys.
    pub has_private_keys: bool,
}

#[derive(Debug, Clone)]
enum Form {
    /// `addr` or `raw`: a script, and no more.
    Script(ScriptBuf),
    /// `rawtr`: an output key.
    OutputKey(ScriptBuf),
    /// What keys and scripts make; several for `combo`.
    Keys(Vec<Arc<Miniscript<DescriptorPublicKey>>>),
    /// The same over a range of hardened steps: as it was given, for the private keys are needed.
    Hardened(Secret),
}

/// The descriptor of one script, not written out before somebody asks.
#[derive(Debug, Clone)]
pub enum Name {
    /// As it is shown.
    Text(String),
    /// A place of the range of one with keys, whose origins are told.
    Place(Arc<Miniscript<DescriptorPublicKey>>, u32),
}

impl Name {
    /// As Core infers it.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Place(descriptor, index) => {
                descriptor.at_derivation_index(*index).map_or_else(|_| descriptor.to_string(), |it| inferred(&it))
            }
        }
    }
}

/// Descriptors with private keys in them. It is never printed.
#[derive(Clone)]
struct Secret(Vec<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret")
    }
}

fn refused(message: impl Into<String>) -> RpcError {
    RpcError::new(code::INVALID_ADDRESS_OR_KEY, message)
}

impl Descriptor {
    /// Reads one; several if it is a multipath one.
    pub fn parse(text: &str, needs_checksum: bool) -> Result<Vec<Self>, RpcError> {
        let body = check_checksum(text, needs_checksum)?;
        check_white_space(body)?;
        let mut all = Vec::new();
        for single in single_paths(body)? {
            all.extend(Self::of_body(&single)?);
        }
        Ok(all)
    }

    fn of_body(body: &str) -> Result<Vec<Self>, RpcError> {
        let inner = |name: &str| body.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(address) = inner("addr") {
            let script = decode_address(address).map_err(|_| refused("Address is not valid"))?;
            return Ok(vec![Self::of(Form::Script(script), body, false)]);
        }
        if let Some(hex) = inner("raw") {
            let bytes = Vec::from_hex(hex).map_err(|_| refused("Raw script is not hex"))?;
            return Ok(vec![Self::of(Form::Script(bytes.into()), body, false)]);
        }
        if let Some(key) = inner("rawtr") {
            let script = ScriptBuf::new_p2tr_tweaked(output_key(key)?.dangerous_assume_tweaked());
            return Ok(vec![Self::of(Form::OutputKey(script), body, false)]);
        }
        if let Some(key) = inner("combo") {
            return Self::combo(body, key).map(|descriptor| vec![descriptor]);
        }
        let (descriptor, keys) = Miniscript::parse_descriptor(secp256k1::SECP256K1, body).map_err(|error| {
            let function = body.split('(').next().unwrap_or_default();
            let known = ["pk", "pkh", "wpkh", "sh", "wsh", "tr", "multi", "sortedmulti"].contains(&function);
            if known {
                refused(error.to_string())
            } else {
                refused(format!("'{body}' is not a valid descriptor function"))
            }
        })?;
        let single = descriptor.into_single_descriptors().map_err(|error| refused(error.to_string()))?;
        let count = single.len();
        let text = public_text(body, &keys);
        let text = format!("{text}#{}", checksum(&text));
        let shown = |descriptor: Miniscript<DescriptorPublicKey>| Self {
            text: text.clone(),
            form: if count == 1 && has_hardened_range(body) && !keys.is_empty() {
                Form::Hardened(Secret(vec![body.to_owned()]))
            } else {
                Form::Keys(vec![Arc::new(descriptor)])
            },
            has_private_keys: !keys.is_empty(),
        };
        Ok(single.into_iter().map(shown).collect())
    }

    fn of(form: Form, body: &str, has_private_keys: bool) -> Self {
        let checksum = desc_checksum(body).unwrap_or_default();
        Self { form, text: format!("{body}#{checksum}"), has_private_keys }
    }

    /// Every way to pay to one key that needs nothing but the key.
    fn combo(body: &str, key: &str) -> Result<Self, RpcError> {
        let parse = |text: String| Miniscript::parse_descriptor(secp256k1::SECP256K1, &text);
        let (plain, keys) = parse(format!("pk({key})")).map_err(|error| refused(error.to_string()))?;
        let mut all = vec![plain];
        // Long keys have no segwit outputs.
        let others = [format!("pkh({key})"), format!("wpkh({key})"), format!("sh(wpkh({key}))")];
        if has_hardened_range(key) && !keys.is_empty() {
            let forms = [format!("pk({key})")].into_iter().chain(others).collect();
            return Ok(Self::of(Form::Hardened(Secret(forms)), &public_text(body, &keys), true));
        }
        all.extend(others.into_iter().filter_map(|text| Some(parse(text).ok()?.0)));
        Ok(Self::of(Form::Keys(all.into_iter().map(Arc::new).collect()), &public_text(body, &keys), !keys.is_empty()))
    }

    /// Whether it stands for many scripts.
    pub fn is_range(&self) -> bool {
        match &self.form {
            Form::Keys(all) => all.iter().any(|descriptor| descriptor.has_wildcard()),
            Form::Hardened(_) => true,
            Form::Script(_) | Form::OutputKey(_) => false,
        }
    }

    /// Whether it says how its outputs are spent.
    pub const fn is_solvable(&self) -> bool {
        matches!(self.form, Form::Keys(_) | Form::Hardened(_))
    }

    /// Its scripts at a place of its range, each with the descriptor of it alone.
    pub fn expand(&self, index: u32) -> Result<Vec<(ScriptBuf, Name)>, RpcError> {
        let all = match &self.form {
            Form::Script(script) | Form::OutputKey(script) => {
                return Ok(vec![(script.clone(), Name::Text(render::descriptor(script)))]);
            }
            Form::Keys(all) => all,
            Form::Hardened(Secret(forms)) => {
                let parsed = forms.iter().map(|form| {
                    let text = at_hardened(form, index);
                    let parsed = Miniscript::parse_descriptor(secp256k1::SECP256K1, &text);
                    parsed
                        .map_err(|error| refused(error.to_string()))
                        .and_then(|(parsed, _)| definite(&Arc::new(parsed), 0))
                });
                return parsed.collect();
            }
        };
        all.iter().map(|descriptor| definite(descriptor, index)).collect()
    }
}

/// The descriptor with public keys where private ones were given, everything else as it was.
fn public_text(body: &str, keys: &KeyMap) -> String {
    let mut text = body.to_owned();
    let mut replace = |private: String, public: String| text = text.replace(&private, &public);
    for key in keys.values() {
        match key {
            DescriptorSecretKey::Single(single) => {
                replace(single.key.to_wif(), single.key.public_key(secp256k1::SECP256K1).to_string());
            }
            DescriptorSecretKey::XPrv(extended) => {
                let public = Xpub::from_priv(secp256k1::SECP256K1, &extended.xkey);
                replace(extended.xkey.to_string(), public.to_string());
            }
            DescriptorSecretKey::MultiXPrv(extended) => {
                let public = Xpub::from_priv(secp256k1::SECP256K1, &extended.xkey);
                replace(extended.xkey.to_string(), public.to_string());
            }
        }
    }
    text
}

/// A key as Core shows it where it knows where it comes from: fingerprint, path and the key itself.
fn key_with_origin(key: &DefiniteDescriptorKey, is_taproot: bool) -> Option<String> {
    let public = key.derive_public_key(secp256k1::SECP256K1).ok()?;
    let mut text = format!("[{}", key.master_fingerprint());
    for step in key.full_derivation_path()?.into_iter() {
        match step {
            ChildNumber::Normal { index } => text.push_str(&format!("/{index}")),
            ChildNumber::Hardened { index } => text.push_str(&format!("/{index}h")),
        }
    }
    let shown = if is_taproot { XOnlyPublicKey::from(public.inner).to_string() } else { public.to_string() };
    Some(format!("{text}]{shown}"))
}

/// The descriptor of one script as Core infers it.
fn inferred(definite: &Miniscript<DefiniteDescriptorKey>) -> String {
    let whole = definite.to_string();
    let mut body = whole.split('#').next().unwrap_or_default().to_owned();
    let is_taproot = matches!(definite, Miniscript::Tr(_));
    definite.for_each_key(|key| {
        if let Some(shown) = key_with_origin(key, is_taproot) {
            body = body.replace(&key.to_string(), &shown);
        }
        true
    });
    format!("{body}#{}", checksum(&body))
}

/// Keys between blanks are none, and are named.
fn check_white_space(body: &str) -> Result<(), RpcError> {
    let (mut functions, mut token) = (Vec::new(), String::new());
    for character in body.chars() {
        match character {
            '(' => functions.push(std::mem::take(&mut token)),
            ')' | ',' => {
                if token.trim() != token {
                    let name = match functions.last().map(String::as_str).unwrap_or_default() {
                        "multi" | "sortedmulti" | "multi_a" | "sortedmulti_a" => "Multi:".to_owned(),
                        name => format!("{name}():"),
                    };
                    return Err(refused(format!("{name} Key '{token}' is invalid due to whitespace")));
                }
                token.clear();
                if character == ')' {
                    functions.pop();
                }
            }
            other => token.push(other),
        }
    }
    Ok(())
}

/// One text for each of the paths in `<0;1>` (BIP 389); private keys need them apart.
fn single_paths(body: &str) -> Result<Vec<String>, RpcError> {
    let (mut rest, mut parts, mut choices) = (body, Vec::new(), Vec::new());
    while let Some((before, after)) = rest.split_once('<') {
        let Some((listed, behind)) = after.split_once('>') else { break };
        parts.push(before);
        choices.push(listed.split(';').collect::<Vec<_>>());
        rest = behind;
    }
    let count = choices.first().map_or(1, Vec::len);
    if choices.iter().any(|choice| choice.len() != count || count < 2) {
        return Err(refused(format!("Invalid multipath in '{body}'")));
    }
    let at = |place: usize| {
        let mut text = String::new();
        for (part, choice) in parts.iter().zip(&choices) {
            text.push_str(part);
            text.push_str(choice[place]);
        }
        text + rest
    };
    Ok((0..count).map(at).collect())
}

/// The script at a place of a range, and the descriptor of it alone.
fn definite(descriptor: &Arc<Miniscript<DescriptorPublicKey>>, index: u32) -> Result<(ScriptBuf, Name), RpcError> {
    let private = || refused("Cannot derive script without private keys");
    if !is_derivable(descriptor) {
        return Err(private());
    }
    let definite = descriptor.at_derivation_index(index).map_err(|_| private())?;
    let derived = definite.derived_descriptor(secp256k1::SECP256K1).map_err(|_| private())?;
    Ok((derived.script_pubkey(), Name::Place(Arc::clone(descriptor), index)))
}

/// The part before the checksum, once the checksum was found right.
fn check_checksum(text: &str, is_needed: bool) -> Result<&str, RpcError> {
    let Some((body, given)) = text.split_once('#') else {
        return if is_needed { Err(refused("Missing checksum")) } else { Ok(text) };
    };
    if given.contains('#') {
        return Err(refused("Multiple '#' symbols"));
    }
    if given.len() != CHECKSUM_LENGTH {
        let message = format!("Expected {CHECKSUM_LENGTH} character checksum, not {} characters", given.len());
        return Err(refused(message));
    }
    let computed = desc_checksum(body).map_err(|_| refused("Invalid characters in payload"))?;
    if computed != given {
        let message = format!("Provided checksum '{given}' does not match computed checksum '{computed}'");
        return Err(refused(message));
    }
    Ok(body)
}

/// The checksum of what stands before any checksum.
pub fn checksum(text: &str) -> String {
    let body = text.split('#').next().unwrap_or_default();
    desc_checksum(body).unwrap_or_default()
}

fn output_key(text: &str) -> Result<XOnlyPublicKey, RpcError> {
    if let Ok(key) = XOnlyPublicKey::from_str(text) {
        return Ok(key);
    }
    let key = PublicKey::from_str(text).map_err(|_| refused(format!("rawtr(): Pubkey '{text}' is invalid")))?;
    Ok(key.inner.into())
}

/// First and last child (Core: `ParseDescriptorRange`).
pub fn range(value: &Value) -> Result<(u32, u32), RpcError> {
    let invalid = |message: &str| Err(RpcError::new(code::INVALID_PARAMETER, message));
    let (first, last) = match value {
        Value::Array(ends) if ends.len() == 2 && ends.iter().all(Value::is_number) => {
            (argument::integer(&ends[0])?, argument::integer(&ends[1])?)
        }
        number @ Value::Number(_) => (0, argument::integer(number)?),
        _ => return invalid("Range must be specified as end or as [begin,end]"),
    };
    if value.is_array() && first > last {
        return invalid("Range specified as [begin,end] must not have begin after end");
    }
    if first < 0 {
        return invalid("Range should be greater or equal than 0");
    }
    if last >> 31 != 0 {
        return invalid("End of range is too high");
    }
    if last >= first + MAX_RANGE {
        return invalid("Range is too large");
    }
    // Both are below 2^31 by now.
    Ok((u32::try_from(first).unwrap_or(0), u32::try_from(last).unwrap_or(0)))
}

/// The descriptor and the range of a scan object, which may be a descriptor alone.
fn scan_object(object: &Value) -> Result<(&str, (u32, u32)), RpcError> {
    let invalid = |message: &str| RpcError::new(code::INVALID_PARAMETER, message);
    match object {
        Value::String(text) => Ok((text.as_str(), DEFAULT_RANGE)),
        Value::Object(fields) => {
            let text = fields.get("desc").filter(|text| !text.is_null());
            let text = text.ok_or_else(|| invalid("Descriptor needs to be provided in scan object"))?;
            let wanted = fields.get("range").filter(|range| !range.is_null()).map(range).transpose()?;
            Ok((argument::text(text)?, wanted.unwrap_or(DEFAULT_RANGE)))
        }
        _ => Err(invalid("Scan object needs to be either a string or an object")),
    }
}

/// Adds the keys and scripts of a scan object (Core: `EvalDescriptorStringOrObject` with its provider).
pub fn add_keys(object: &Value, keys: &mut Keystore) -> Result<(), RpcError> {
    let (text, wanted) = scan_object(object)?;
    // For what is wrong with it, in Core's words.
    Descriptor::parse(text, false)?;
    let body = check_checksum(text, false)?;
    single_paths(body)?.iter().try_for_each(|body| add_keys_of(body, wanted, keys))
}

fn add_keys_of(body: &str, wanted: (u32, u32), keys: &mut Keystore) -> Result<(), RpcError> {
    let inner = |name: &str| body.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    let forms = if inner("addr").is_some() || inner("raw").is_some() {
        Vec::new()
    } else if let Some(key) = inner("combo") {
        vec![format!("pkh({key})"), format!("sh(wpkh({key}))"), format!("wpkh({key})")]
    } else if let Some(key) = inner("rawtr") {
        vec![format!("pkh({key})")]
    } else {
        vec![body.to_owned()]
    };
    let mut outcomes = forms.into_iter().map(|form| expand(&form, wanted, keys));
    // Long keys have no segwit outputs: it is enough that the first form is one.
    let first = outcomes.next().unwrap_or(Ok(()));
    outcomes.for_each(drop);
    first.map_err(|error| refused(error.to_string()))
}

/// The scripts of a scan object: a descriptor, or an object with one and its range (Core: `EvalDescriptorStringOrObject`).
pub fn scripts_of(object: &Value) -> Result<Vec<(ScriptBuf, Name)>, RpcError> {
    let (text, wanted) = scan_object(object)?;
    let mut scripts = Vec::new();
    for descriptor in Descriptor::parse(text, false)? {
        let (first, last) = if descriptor.is_range() { wanted } else { (0, 0) };
        for index in first..=last {
            scripts.extend(descriptor.expand(index)?);
        }
    }
    Ok(scripts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn only(text: &str) -> Descriptor {
        Descriptor::parse(text, false).unwrap().remove(0)
    }

    #[test]
    fn forms_have_their_scripts() {
        let table = [
            (format!("pkh({KEY})"), "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac"),
            (format!("wpkh({KEY})"), "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
            ("raw(51)".into(), "51"),
            (
                "addr(bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080)".into(),
                "0014751e76e8199196d454941c45d1b3a323f1433bd6",
            ),
            (format!("rawtr({})", &KEY[2..]), "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
        ];
        for (text, script) in table {
            assert_eq!(only(&text).expand(0).unwrap()[0].0.to_hex_string(), script, "{text}");
        }
        assert_eq!(only(&format!("combo({KEY})")).expand(0).unwrap().len(), 4);
    }

    /// Hardened steps are taken by private keys, and refused to public ones.
    #[test]
    fn hardened_steps_need_private_keys() {
        const PRIVATE: &str = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
        const PUBLIC: &str = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
        let ranged = only(&format!("wpkh({PRIVATE}/0'/*h)"));
        assert!(ranged.is_range() && ranged.has_private_keys && ranged.is_solvable());
        let single = only(&format!("wpkh({PRIVATE}/0'/7h)"));
        assert_eq!(ranged.expand(7).unwrap()[0].0, single.expand(0).unwrap()[0].0);
        assert_eq!(only(&format!("combo({PRIVATE}/*')")).expand(3).unwrap().len(), 4);
        // Shown without secrets, and as it was typed; what it stands for with origin and key.
        assert!(ranged.text.starts_with(&format!("wpkh({PUBLIC}/0'/*h)#")), "{}", ranged.text);
        let inferred = &only(&format!("pkh({PRIVATE}/0h/0h/*)")).expand(0).unwrap()[0].1;
        let key = "026dbd8b2315f296d36e6b6920b1579ca75569464875c7ebe869b536a7d9503c8c";
        assert_eq!(inferred.text(), format!("pkh([0c5f9a1e/0h/0h/0]{key})#rthll0rg"));
        let both = Descriptor::parse(&format!("wpkh({PRIVATE}/<0;1>/*)"), false).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(both[1].expand(5).unwrap()[0].0, only(&format!("wpkh({PUBLIC}/1/5)")).expand(0).unwrap()[0].0);
        let blanks = Descriptor::parse("wsh(multi(1, 02,03))", false).unwrap_err().message;
        assert_eq!(blanks, "Multi: Key ' 02' is invalid due to whitespace");
        for path in ["*h", "0h/*", "0'"] {
            for form in [format!("wpkh({PUBLIC}/{path})"), format!("combo({PUBLIC}/{path})")] {
                // Whether it is refused at once or later: it must not panic.
                let outcome = Descriptor::parse(&form, false).and_then(|mut all| all.remove(0).expand(0));
                assert!(outcome.is_err(), "{form}");
                assert!(add_keys(&form.clone().into(), &mut Keystore::default()).is_err(), "{form}");
            }
        }
    }

    #[test]
    fn checksums_are_checked() {
        let refusal = |text: &str, needed| Descriptor::parse(text, needed).unwrap_err().message;
        assert_eq!(refusal("raw(51)", true), "Missing checksum");
        assert_eq!(refusal("raw(51)#abc", true), "Expected 8 character checksum, not 3 characters");
        assert!(refusal("raw(51)#qqqqqqqq", false).starts_with("Provided checksum 'qqqqqqqq' does not match"));
        assert_eq!(refusal("raw(5)", false), "Raw script is not hex");
        assert_eq!(refusal("addr(x)", false), "Address is not valid");
        assert!(refusal("foo(51)", false).ends_with("is not a valid descriptor function"));
        let whole = only("raw(deadbeef)");
        assert_eq!(whole.text, "raw(deadbeef)#89f8spxm");
        assert!(Descriptor::parse(&whole.text, true).is_ok());
    }
}
