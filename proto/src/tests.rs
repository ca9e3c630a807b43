//! The contract's own rules: what `buf lint` (STANDARD and COMMENTS) would say, and API.md's rules beyond.

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::FILE_DESCRIPTOR_SET;

fn own_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file.into_iter().filter(|file| file.package().starts_with("channeld")).collect()
}

fn messages(file: &FileDescriptorProto) -> Vec<&DescriptorProto> {
    fn walk<'a>(message: &'a DescriptorProto, all: &mut Vec<&'a DescriptorProto>) {
        all.push(message);
        message.nested_type.iter().for_each(|nested| walk(nested, all));
    }
    let mut all = Vec::new();
    file.message_type.iter().for_each(|message| walk(message, &mut all));
    all
}

/// `ChannelState` as `CHANNEL_STATE`.
fn upper_snake(name: &str) -> String {
    let mut upper = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            upper.push('_');
        }
        upper.push(c.to_ascii_uppercase());
    }
    upper
}

fn check_enum(wrong: &mut Vec<String>, item: &EnumDescriptorProto) {
    let prefix = upper_snake(item.name());
    for value in &item.value {
        if !value.name().starts_with(&format!("{prefix}_")) {
            wrong.push(format!("{}: no prefix {prefix}_", value.name()));
        }
        if value.number() == 0 && value.name() != format!("{prefix}_UNSPECIFIED") {
            wrong.push(format!("{}: zero is not _UNSPECIFIED", value.name()));
        }
    }
}

#[test]
fn packages_are_folders_and_names_follow_the_rules() {
    let mut wrong = Vec::new();
    for file in own_files() {
        let folder = file.name().rsplit_once('/').unwrap().0.replace('/', ".");
        if folder != file.package() {
            wrong.push(format!("{}: package {} is not its folder", file.name(), file.package()));
        }
        file.enum_type.iter().for_each(|item| check_enum(&mut wrong, item));
        for message in messages(&file) {
            message.enum_type.iter().for_each(|item| check_enum(&mut wrong, item));
            for field in &message.field {
                if field.name().chars().any(|c| c.is_uppercase()) {
                    wrong.push(format!("{}.{}: not lower_snake_case", message.name(), field.name()));
                }
            }
        }
        for service in &file.service {
            if !service.name().ends_with("Service") {
                wrong.push(format!("{}: does not end in Service", service.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_method_has_its_own_request_and_response() {
    for file in own_files() {
        let package = file.package().to_string();
        for method in file.service.iter().flat_map(|service| &service.method) {
            assert_eq!(method.input_type(), format!(".{package}.{}Request", method.name()));
            assert_eq!(method.output_type(), format!(".{package}.{}Response", method.name()));
        }
    }
}

#[test]
fn every_list_is_paged() {
    for file in own_files() {
        for message in messages(&file) {
            let fields: Vec<&str> = message.field.iter().map(|field| field.name()).collect();
            if message.name().starts_with("List") && message.name().ends_with("Request") {
                for field in ["page_size", "page_token", "order"] {
                    assert!(fields.contains(&field), "{}: no {field}", message.name());
                }
            }
            if message.name().starts_with("List") && message.name().ends_with("Response") {
                assert!(fields.contains(&"next_page_token"), "{}: no next_page_token", message.name());
            }
        }
    }
}

#[test]
fn every_mutating_call_can_be_repeated_and_validated() {
    let reading = ["Get", "List", "Subscribe", "Decode", "Stream", "Exchange", "Plan", "Audit", "Query"];
    for file in own_files().iter().filter(|file| file.package() == "channeld.v1") {
        for method in file.service.iter().flat_map(|service| &service.method) {
            if reading.iter().any(|verb| method.name().starts_with(verb)) {
                continue;
            }
            let name = format!("{}Request", method.name());
            let request = file.message_type.iter().find(|message| message.name() == name).unwrap();
            for field in ["request_id", "validate_only"] {
                assert!(request.field.iter().any(|own| own.name() == field), "{name}: no {field}");
            }
        }
    }
}

#[test]
fn amounts_are_unsigned_whole_numbers_with_a_unit() {
    for file in own_files() {
        for message in messages(&file) {
            for field in &message.field {
                let name = format!("{}.{}", message.name(), field.name());
                assert!(!matches!(field.r#type(), Type::Float | Type::Double), "{name} is a float");
                if field.name().ends_with("_sat") || field.name().ends_with("_msat") {
                    assert_eq!(field.r#type(), Type::Uint64, "{name}");
                }
                let amount = field.name().contains("amount") && field.r#type() == Type::Uint64;
                assert!(!amount || field.name().ends_with("sat"), "{name} has no unit");
            }
        }
    }
}

#[test]
fn everything_is_commented() {
    let mut wrong = Vec::new();
    for file in own_files() {
        let info = file.source_code_info.clone().unwrap_or_default();
        let commented = |path: &[i32]| {
            let at = info.location.iter().find(|location| location.path == path);
            at.is_some_and(|location| !location.leading_comments().trim().is_empty())
        };
        let mut expect = |path: Vec<i32>, name: String| {
            if !commented(&path) {
                wrong.push(format!("{}: {name} has no comment", file.name()));
            }
        };
        // The numbers are those of descriptor.proto: 4 message, 5 enum, 6 service; 2 field, value and method; 8 oneof.
        for (m, message) in file.message_type.iter().enumerate() {
            expect(vec![4, m as i32], message.name().into());
            for (f, field) in message.field.iter().enumerate() {
                expect(vec![4, m as i32, 2, f as i32], format!("{}.{}", message.name(), field.name()));
            }
            for (o, oneof) in message.oneof_decl.iter().enumerate() {
                // A field that is `optional` has a oneof of its own that nobody wrote.
                if !oneof.name().starts_with('_') {
                    expect(vec![4, m as i32, 8, o as i32], format!("{}.{}", message.name(), oneof.name()));
                }
            }
        }
        for (e, item) in file.enum_type.iter().enumerate() {
            expect(vec![5, e as i32], item.name().into());
            for (v, value) in item.value.iter().enumerate() {
                expect(vec![5, e as i32, 2, v as i32], value.name().into());
            }
        }
        for (s, service) in file.service.iter().enumerate() {
            expect(vec![6, s as i32], service.name().into());
            for (m, method) in service.method.iter().enumerate() {
                expect(vec![6, s as i32, 2, m as i32], method.name().into());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_reason_names_its_code() {
    let codes = [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "UNAVAILABLE",
        "ABORTED",
        "OUT_OF_RANGE",
        "INTERNAL",
        "UNIMPLEMENTED",
    ];
    let files = own_files();
    let file = files.iter().find(|file| file.name() == "channeld/v1/error.proto").unwrap();
    let info = file.source_code_info.clone().unwrap();
    for (v, value) in file.enum_type[0].value.iter().enumerate().skip(1) {
        let location = info.location.iter().find(|at| at.path == [5, 0, 2, v as i32]).unwrap();
        let comment = location.leading_comments().trim();
        assert!(codes.iter().any(|code| comment.ends_with(&format!("{code}."))), "{}", value.name());
    }
}

/// Every method, field and enum value of the owner's API, one a line.
fn contract() -> Vec<String> {
    let mut lines = Vec::new();
    for file in own_files().iter().filter(|file| file.package() == "channeld.v1") {
        for service in &file.service {
            for method in &service.method {
                let (client, server) = (method.client_streaming(), method.server_streaming());
                lines.push(format!(
                    "method {}.{} client_streaming={client} server_streaming={server}",
                    service.name(),
                    method.name()
                ));
            }
        }
        for message in messages(file) {
            for field in &message.field {
                let (label, kind) = (field.label(), field.r#type());
                let of = field.type_name();
                lines.push(format!(
                    "field {}.{} = {} {label:?} {kind:?} {of}",
                    message.name(),
                    field.name(),
                    field.number()
                ));
            }
        }
        for item in &file.enum_type {
            lines.extend(item.value.iter().map(|value| format!("value {} = {}", value.name(), value.number())));
        }
    }
    lines.sort();
    lines
}

/// `contract.txt` is what the last release said. Nothing in it may change or go; new lines are added to it with
/// `UPDATE_CONTRACT=1 cargo test -p proto`.
#[test]
fn what_was_released_stays() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contract.txt");
    let now = contract();
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        std::fs::write(path, now.join("\n") + "\n").unwrap();
    }
    let released = std::fs::read_to_string(path).unwrap();
    let gone: Vec<&str> = released.lines().filter(|line| !now.iter().any(|own| own == line)).collect();
    assert!(gone.is_empty(), "clients rely on these: {gone:#?}");
    let new: Vec<&String> = now.iter().filter(|line| !released.lines().any(|own| own == *line)).collect();
    assert!(new.is_empty(), "not in contract.txt yet (UPDATE_CONTRACT=1): {new:#?}");
}
