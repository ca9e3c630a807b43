//! What follows from the signatures of the methods: Core's `RPCHelpMan` checks numbers and types before all else.

use serde_json::{Value, json};

use super::signature::{HIDDEN, Parameter, SIGNATURES};
use super::{Case, case, play};
use crate::node::Node;

/// A value of each JSON type, and Core's name for it.
fn values() -> [(char, &'static str, Value); 6] {
    [
        ('t', "string", json!("x")),
        ('n', "number", json!(1)),
        ('b', "bool", json!(true)),
        ('a', "array", json!([])),
        ('o', "object", json!({})),
        ('0', "null", Value::Null),
    ]
}

fn type_name(kind: char) -> &'static str {
    values().into_iter().find(|(known, ..)| *known == kind).unwrap().1
}

/// Something of the right type.
fn sample(kind: char) -> Value {
    values().into_iter().find(|(known, ..)| *known == kind).map_or(Value::Null, |(.., value)| value)
}

fn mismatch(position: usize, names: &str, is: &str, kind: char) -> String {
    let expected = type_name(kind);
    format!(
        "    \"Position {} ({names})\": \"JSON value of type {is} is not of expected type {expected}\"",
        position + 1
    )
}

fn refusal(mismatches: &[String]) -> String {
    format!("Wrong type passed:\n{{\n{}\n}}", mismatches.join(",\n"))
}

/// Each parameter of each wrong type, the others right; and all of them wrong at once.
fn wrong_types(method: &'static str, parameters: &[Parameter]) -> Vec<Case> {
    let mut cases = Vec::new();
    let count = |last: usize| {
        let least = parameters.iter().rposition(|(.., required)| *required).map_or(0, |place| place + 1);
        least.max(last + 1)
    };
    for (position, (names, kind, required)) in parameters.iter().enumerate() {
        for (other, is, value) in values() {
            if *kind == '*' || other == *kind || (other == '0' && !required) {
                continue;
            }
            let mut params: Vec<Value> =
                parameters.iter().take(count(position)).map(|(_, kind, _)| sample(*kind)).collect();
            params[position] = value;
            cases.push(case(method, params.into(), -3, refusal(&[mismatch(position, names, is, *kind)])));
        }
    }
    // An array for all but arrays, true for those.
    let all = parameters.iter().map(|(_, kind, _)| if *kind == 'a' { json!(true) } else { json!([]) });
    let mismatches: Vec<String> = parameters
        .iter()
        .enumerate()
        .filter(|(_, (_, kind, _))| *kind != '*')
        .map(|(position, (names, kind, _))| {
            mismatch(position, names, if *kind == 'a' { "bool" } else { "array" }, *kind)
        })
        .collect();
    if mismatches.len() > 1 {
        cases.push(case(method, all.collect::<Vec<_>>().into(), -3, refusal(&mismatches)));
    }
    cases
}

#[test]
fn each_argument_of_each_wrong_type_is_named() {
    let mut node = Node::start();
    let cases: Vec<Case> =
        SIGNATURES.iter().flat_map(|(method, _, parameters)| wrong_types(method, parameters)).collect();
    assert!(cases.len() >= 250, "{}", cases.len());
    play(&mut node, cases);
}

/// Too few and too many: the code of a misuse, and the help text, whose first line is Core's.
#[test]
fn a_wrong_number_of_arguments_is_answered_by_the_usage() {
    let mut node = Node::start();
    for (method, usage, parameters) in SIGNATURES {
        let help = node.call("help", json!([method]));
        let help = help.as_str().unwrap();
        assert_eq!(help.lines().next(), Some(*usage), "{method}");
        let right: Vec<Value> = parameters.iter().map(|(_, kind, _)| sample(*kind)).collect();
        let least = parameters.iter().rposition(|(.., required)| *required).map_or(0, |last| last + 1);
        let mut calls = vec![[&right[..], &[Value::Null]].concat()];
        if least > 0 {
            calls.push(right[..least - 1].to_vec());
            calls.push(vec![]);
        }
        for params in calls {
            let (code, message) = node.refuse(method, params.clone().into());
            assert_eq!((code, message.as_str()), (-1, help), "{method} {params:?}");
        }
    }
}

/// What a method does not know by name, and what is given twice.
#[test]
fn named_arguments_are_known_by_their_names_only() {
    let mut node = Node::start();
    let mut cases = Vec::new();
    for (method, _, parameters) in SIGNATURES {
        cases.push(case(method, json!({"nosuch": 1}), -8, "Unknown named parameter nosuch"));
        if let Some((names, kind, _)) = parameters.first() {
            let name = names.split('|').next().unwrap();
            let params = json!({"args": [sample(*kind)], name: sample(*kind)});
            let message = format!("Parameter {names} specified twice both as positional and named argument");
            cases.push(case(method, params, -8, message));
        }
    }
    cases.push(case(
        "getblock",
        json!({"blockhash": "", "verbose": 1, "verbosity": 1}),
        -8,
        "Unknown named parameter verbose",
    ));
    cases.push(case(
        "gettxspendingprevout",
        json!({"outputs": [], "options": {}, "mempool_only": true}),
        -8,
        "Parameter options conflicts with parameter mempool_only",
    ));
    // What is no list under the name of the positional ones is dropped.
    cases.push(case("getblockhash", json!({"args": 7, "height": -1}), -8, "Block height out of range"));
    play(&mut node, cases);
}

/// Every method that is there has its row.
#[test]
fn no_method_is_forgotten() {
    let mut node = Node::start();
    let help = node.call("help", json!([]));
    let listed: Vec<&str> = help
        .as_str()
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("=="))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    for (method, usage, _) in SIGNATURES {
        assert_ne!(HIDDEN.contains(method), listed.contains(method), "{method}");
        assert!(usage.starts_with(method));
    }
    let missing: Vec<&&str> =
        listed.iter().filter(|name| SIGNATURES.iter().all(|(method, ..)| method != *name)).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
}
