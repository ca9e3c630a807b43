//! Objects in which a key comes twice: `Value` keeps the last, Core looks at all of them. Where that could cost somebody an
//! output, the object becomes a list of pairs, which means the same.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Methods whose second parameter lists outputs.
const METHODS: [&str; 2] = ["createrawtransaction", "createpsbt"];

#[derive(serde::Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    outputs: &'a RawValue,
}

/// The pairs of an object, in order.
struct Pairs(Vec<Value>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairVisitor)
    }
}

struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = Pairs;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            pairs.push(Value::Object(Map::from_iter([(key, value)])));
        }
        Ok(Pairs(pairs))
    }
}

/// Turns the outputs of a call into a list of pairs, if they are an object with a key that comes twice.
pub fn keep(body: &[u8], method: &str, params: &mut Value) {
    if METHODS.contains(&method)
        && let Some(outputs) = outputs_of(params)
        && let Some(object) = outputs.as_object()
        && let Some(Pairs(pairs)) = pairs(body)
        && pairs.len() > object.len()
    {
        *outputs = pairs.into();
    }
}

fn outputs_of(params: &mut Value) -> Option<&mut Value> {
    match params {
        Value::Array(values) => values.get_mut(1),
        Value::Object(named) => named.get_mut("outputs"),
        _ => None,
    }
}

fn pairs(body: &[u8]) -> Option<Pairs> {
    let params = serde_json::from_slice::<Request<'_>>(body).ok()?.params.get();
    let outputs = match serde_json::from_str::<Vec<&RawValue>>(params) {
        Ok(values) => *values.get(1)?,
        Err(_) => serde_json::from_str::<Named<'_>>(params).ok()?.outputs,
    };
    serde_json::from_str(outputs.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_twice_is_kept() {
        let after = |body: &str| {
            let mut request: Value = serde_json::from_str(body).unwrap();
            let mut params = request["params"].take();
            keep(body.as_bytes(), request["method"].as_str().unwrap(), &mut params);
            params
        };
        let pairs = json!([{"a": 1}, {"b": 2}, {"a": 3}]);
        let twice = r#"{"a":1,"b":2,"a":3}"#;
        let listed = format!(r#"{{"method":"createpsbt","params":[[],{twice}]}}"#);
        assert_eq!(after(&listed), json!([[], pairs]));
        let named = format!(r#"{{"method":"createrawtransaction","params":{{"outputs":{twice}}}}}"#);
        assert_eq!(after(&named), json!({"outputs": pairs}));
        let once = r#"{"method":"createpsbt","params":[[],{"a":1}]}"#;
        assert_eq!(after(once), json!([[], {"a": 1}]));
        let other = format!(r#"{{"method":"echo","params":[[],{twice}]}}"#);
        assert_eq!(after(&other)[1].as_object().unwrap().len(), 2);
    }
}
