//! Texts that PostgreSQL has no place for, on their way there.

use super::table::{Mended, Table, key_text};
use crate::database::Cell as Value;

/// Characters of the digest that keeps a mended text apart from all others.
const DIGEST_LENGTH: usize = 16;

/// Mends the texts of a row that have U+0000, and tells of each.
pub(super) fn row(table: &Table, row: &mut [Value], mut tell: impl FnMut(Mended)) {
    let is_whole = |value: &Value| !matches!(value, Value::Text(Some(text)) if text.contains('\0'));
    if row.iter().all(is_whole) {
        return;
    }
    let key = key_text(&table.key_of(row));
    for (value, column) in row.iter_mut().zip(&table.columns) {
        let Value::Text(Some(text)) = value else { continue };
        if text.contains('\0') {
            *text = mended(text);
            tell(Mended { column: column.name.clone(), key: key.clone(), text: text.clone() });
        }
    }
}

/// Returns a text without U+0000 that no other text becomes: a name may stand in several tables, and two
/// names in one.
fn mended(text: &str) -> String {
    let digest = blake3::hash(text.as_bytes()).to_hex();
    format!("{}~{}", text.replace('\0', "\u{fffd}"), &digest[..DIGEST_LENGTH])
}
