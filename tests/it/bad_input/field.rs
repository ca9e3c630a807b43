//! Every field of every request, read from the contract: alone, with values at the edges of its type, twice, and as another
//! wire type. What each comes to is in `field.txt`; a new field, or another answer, is a line that is not there:
//! `UPDATE_FIELDS=1 cargo test -p tests --test it bad_input` writes it anew, to be read before it is committed.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tests::Cluster;
use tests::refusal::reason;
use tests::wait::soon;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use wallet_cli::client::Link;

use super::client::{RawCodec, services};

/// The wire types of protobuf: varint, eight bytes, length and bytes, four bytes.
const WIRE_TYPES: [u64; 4] = [0, 1, 2, 5];

/// The contract's messages, by their full names.
pub struct Contract(Vec<(String, DescriptorProto)>);

/// What may stand in a request.
pub struct Case {
    /// The field of the request that it is about; empty where there is none.
    pub field: String,
    said: String,
    pub bytes: Vec<u8>,
}

impl Contract {
    pub fn read() -> Contract {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let named = set.file.iter().flat_map(|file| {
            let package = file.package().to_owned();
            file.message_type.iter().map(move |message| (format!(".{package}.{}", message.name()), message.clone()))
        });
        Contract(named.collect())
    }

    pub fn message(&self, name: &str) -> Option<&DescriptorProto> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, message)| message)
    }

    fn cases(&self, name: &str, depth: usize) -> Vec<Case> {
        let mut cases = vec![Case { field: String::new(), said: "nothing".to_owned(), bytes: Vec::new() }];
        let Some(message) = self.message(name) else { return cases };
        for field in &message.field {
            let mut add = |said: String, bytes| cases.push(Case { field: field.name().to_owned(), said, bytes });
            for (said, value) in self.values(field, depth) {
                let one = tagged(field, wire_type(field), &value);
                add(said.clone(), one.clone());
                if depth == 0 && field.label() == Label::Repeated {
                    add(format!("twice {said}"), [one.clone(), one].concat());
                }
            }
            for other in WIRE_TYPES.into_iter().filter(|other| *other != wire_type(field)) {
                let value: &[u8] = match other {
                    0 => &[1],
                    1 => &[1; 8],
                    2 => &[2, b'a', b'b'],
                    _ => &[1; 4],
                };
                add(format!("wire type {other}"), tagged(field, other, value));
            }
        }
        cases
    }

    /// Values of a field, as they stand behind its tag.
    fn values(&self, field: &FieldDescriptorProto, depth: usize) -> Vec<(String, Vec<u8>)> {
        let numbers: &[u64] = match field.r#type() {
            Type::Bool => &[0, 1, 2],
            Type::Enum => &[0, 1, 99, u64::MAX],
            Type::Int32 => &[0, 1, 0x7fff_ffff, u64::MAX, 0xffff_ffff_8000_0000],
            Type::Int64 => &[0, 1, i64::MAX as u64, u64::MAX, 1 << 63],
            Type::Uint32 => &[0, 1, 483, 0xffff_ffff],
            Type::Uint64 => &[0, 1, 2_100_000_000_000_001, 1 << 63, u64::MAX],
            _ => &[],
        };
        if !numbers.is_empty() {
            return numbers.iter().map(|number| (number.to_string(), varint(*number))).collect();
        }
        if field.r#type() == Type::Message && depth < 2 {
            let nested = self.cases(field.type_name(), depth + 1).into_iter();
            let said = |case: &Case| format!("{{{} {}}}", case.field, case.said);
            return nested.map(|case| (said(&case), lengthy(&case.bytes))).collect();
        }
        let texts: [(&str, &[u8]); 10] = [
            ("empty", b""),
            ("x", b"x"),
            ("NUL", b"\0"),
            ("a crab", "\u{1f980}".as_bytes()),
            ("no UTF-8", &[0xff, 0xfe]),
            ("1x2x3", b"1x2x3"),
            ("64 a", &[b'a'; 64]),
            ("66 f", &[b'f'; 66]),
            ("1,000 nines", &[b'9'; 1_000]),
            ("100,000 q", &[b'q'; 100_000]),
        ];
        texts.into_iter().map(|(said, text)| (said.to_owned(), lengthy(text))).collect()
    }
}

fn wire_type(field: &FieldDescriptorProto) -> u64 {
    match field.r#type() {
        Type::String | Type::Bytes | Type::Message => 2,
        _ => 0,
    }
}

pub fn tagged(field: &FieldDescriptorProto, wire_type: u64, value: &[u8]) -> Vec<u8> {
    [&varint(u64::from(field.number().unsigned_abs()) << 3 | wire_type)[..], value].concat()
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number, &mut bytes);
    bytes
}

fn lengthy(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64)[..], bytes].concat()
}

/// The first answer of a call with these bytes: streams say something at once, or end.
pub async fn ask(link: &Link, path: &str, bytes: Vec<u8>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(link.clone());
    grpc.ready().await.expect("the daemon is there");
    let request = Request::new(tokio_stream::iter([bytes]));
    let called = async {
        let mut answers = grpc.streaming(request, path.parse().expect("a path"), RawCodec).await?.into_inner();
        answers.message().await.map(drop)
    };
    soon(path, called).await
}

/// An answer in a word or two. Every refusal is typed.
fn outcome(answer: Result<(), Status>, asked: &str) -> String {
    let Err(refusal) = answer else { return "taken".to_owned() };
    let says_nothing = matches!(refusal.code(), Code::Unknown | Code::Internal | Code::Unimplemented);
    assert!(!says_nothing && refusal.get_details_error_info().is_some(), "{asked}: {refusal:?}");
    let wrong = refusal.get_details_bad_request().and_then(|details| details.field_violations.into_iter().next());
    let wrong = wrong.map(|violation| format!(" {}", violation.field)).unwrap_or_default();
    format!("{}{wrong}", reason(&refusal))
}

/// Tells the daemon all of it.
pub async fn edges(cluster: &Cluster) {
    let (contract, link) = (Contract::read(), cluster.bob().client().link());
    let (mut lines, mut asked) = (Vec::new(), 0);
    for service in services() {
        for method in &service.method {
            let path = format!("/channeld.v1.{}/{}", service.name(), method.name());
            let request = contract.message(method.input_type()).expect("the contract is whole");
            // The last one counts: whatever the case says of it, a call that could change something does not.
            let validate = request.field.iter().find(|field| field.name() == "validate_only");
            let validate = validate.map(|field| tagged(field, 0, &[1])).unwrap_or_default();
            let mut outcomes: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
            for case in contract.cases(method.input_type(), 0) {
                let bytes = [case.bytes, validate.clone()].concat();
                let what = format!("{path} {} {}", case.field, case.said);
                let answer = outcome(ask(&link, &path, bytes).await, &what);
                asked += 1;
                outcomes.entry((case.field, answer)).or_default().push(case.said);
            }
            for ((field, answer), said) in outcomes {
                lines.push(format!("{}.{field} | {answer} | {}", method.name(), said.join(", ")));
            }
        }
    }
    assert!(asked > 1_000, "{asked}");
    compare(&lines);
}

fn compare(lines: &[String]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/it/bad_input/field.txt");
    if std::env::var_os("UPDATE_FIELDS").is_some() {
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap();
    let known: Vec<&str> = known.lines().collect();
    let new: Vec<&String> = lines.iter().filter(|line| !known.contains(&line.as_str())).collect();
    let gone: Vec<&&str> = known.iter().filter(|line| !lines.iter().any(|own| own == **line)).collect();
    assert!(new.is_empty() && gone.is_empty(), "not in field.txt (UPDATE_FIELDS=1): {new:#?}\nno more: {gone:#?}");
}
