//! Lists as statements take them.

/// Expands `{INTS n}` and `{TEXTS n}` in a statement into "the values of the JSON array bound to
/// parameter n", and `{NOW_MS}` into the time by the database's clock, in milliseconds since 1970, as
/// the engine wants it said. The statement itself is a constant of ours.
pub(crate) fn list_sql(sql: &'static str, postgres: bool) -> String {
    let mut text = String::with_capacity(sql.len() + 80);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        let (what, tail) = after.split_once('}').expect("statements close their braces");
        let (kind, n) = what.split_once(' ').unwrap_or((what, ""));
        text.push_str(before);
        match (postgres, kind) {
            (false, "NOW_MS") => text.push_str("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
            (true, "NOW_MS") => {
                text.push_str("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)");
            }
            (false, _) => text.push_str(&format!("(SELECT value FROM json_each(${n}))")),
            (true, "INTS") => text.push_str(&format!(
                "(SELECT CAST(value AS BIGINT) AS value FROM jsonb_array_elements_text(CAST(${n} AS jsonb)))"
            )),
            (true, _) => text.push_str(&format!(
                "(SELECT value FROM jsonb_array_elements_text(CAST(${n} AS jsonb)))"
            )),
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// Renders integers as the JSON array that `{INTS n}` binds.
pub(crate) fn int_list(values: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for (n, value) in values.into_iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&value.to_string());
    }
    text.push(']');
    text
}
