//! stdout: tables for people, JSON for programs. Progress goes to stderr.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::failure::{Exit, Failure};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the descriptors were made by our own build")
});

/// How results are written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
}

/// A message of the contract as JSON: names as in the .proto files, enums by name, integers as numbers.
///
/// # Errors
/// A message that its own descriptor does not describe: a defect.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value, Failure> {
    let descriptor = POOL.get_message_by_name(&M::full_name());
    let descriptor = descriptor.ok_or_else(|| Failure::defect(format!("no descriptor of {}", M::full_name())))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
    let dynamic = dynamic.map_err(|error| Failure::defect(error.to_string()))?;
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
    let value = dynamic.serialize_with_options(serde_json::value::Serializer, &options);
    value.map_err(|error| Failure::defect(error.to_string()))
}

impl Output {
    /// One result: a message as JSON, or what `human` makes of it.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn message<M: Message + Name>(&self, message: &M, human: impl FnOnce(&M) -> String) -> Result<(), Failure> {
        if self.json { self.value(&to_json(message)?) } else { line(&human(message)) }
    }

    /// One result that is JSON already, or text.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn either(&self, json: impl FnOnce() -> Value, human: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.value(&json()) } else { line(&human()) }
    }

    /// A list: a JSON array, or a table.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn list<M: Message + Name>(&self, items: &[M], human: impl FnOnce(&[M]) -> String) -> Result<(), Failure> {
        if !self.json {
            return line(&human(items));
        }
        let items = items.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        self.value(&Value::Array(items))
    }

    /// One of many results in a row: JSON on one line, or a line of text.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn item<M: Message + Name>(&self, message: &M, human: impl FnOnce(&M) -> String) -> Result<(), Failure> {
        if self.json { line(&to_json(message)?.to_string()) } else { line(&human(message)) }
    }

    /// JSON, indented.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn value(&self, value: &Value) -> Result<(), Failure> {
        line(&serde_json::to_string_pretty(value).map_err(|error| Failure::defect(error.to_string()))?)
    }
}

/// Writes to stdout. A reader that went away (`| head`) ends the program without noise, and with it what it started.
///
/// # Errors
/// Where stdout takes nothing more, as on a full disk.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::Defect, format!("stdout: {error}"), "check where the output goes")),
    }
}

/// A table with these columns; those whose name begins with `>` are figures and stand to the right.
pub fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
    for row in rows {
        table.add_row(row);
    }
    for (place, name) in columns.iter().enumerate() {
        if let (true, Some(column)) = (name.starts_with('>'), table.column_mut(place)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Names and values, one below the other.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// `0123456789ab…`: enough of an id to tell it from others; the whole one is in `--json` and in `show`.
pub fn short(id: &str) -> String {
    match id.char_indices().nth(12) {
        Some((end, _)) if id.len() > 16 => format!("{}…", &id[..end]),
        _ => id.to_string(),
    }
}

/// A spinner on stderr, silent where that is no terminal.
pub fn spinner(message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.into());
    if std::io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

/// A bar on stderr, silent where that is no terminal.
pub fn bar(length: u64, message: impl Into<String>) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
    ProgressBar::new(length)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
        .with_message(message.into())
}

#[cfg(test)]
mod tests {
    use proto::v1::{Channel, ChannelState};

    use super::*;

    #[test]
    fn json_has_names_numbers_and_every_field() {
        let channel = Channel { capacity_sat: 5, state: ChannelState::Open.into(), ..Channel::default() };
        let json = to_json(&channel).unwrap();
        assert_eq!(json["capacity_sat"], 5);
        assert_eq!(json["state"], "CHANNEL_STATE_OPEN");
        assert_eq!(json["usable"], false);
    }

    #[test]
    fn figures_stand_to_the_right() {
        let text = table(&["name", ">sat"], [vec!["a".into(), "1".into()], vec!["b".into(), "1,000".into()]]);
        assert!(text.contains("     1"), "{text}");
    }
}
