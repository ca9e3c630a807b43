//! What a refused call says.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The published reason of a refusal.
///
/// # Panics
/// Where the status has none, or is of a code that says nothing: every refusal is typed.
pub fn reason(status: &Status) -> String {
    assert!(!matches!(status.code(), Code::Ok | Code::Unknown | Code::Internal), "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "channeld", "{status:?}");
    info.reason
}

/// The field that a refusal names.
pub fn field(status: &Status) -> String {
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no field: {status:?}"));
    details.field_violations.first().map(|violation| violation.field.clone()).unwrap_or_default()
}
