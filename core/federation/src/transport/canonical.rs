//! The canonical form of JSON that came from outside, as its signature covers it: keys sorted, nothing between
//! tokens, texts and numbers written one way. Of any depth, without recursion: one event that is nested deeper than
//! common readers go must not spoil the transaction it came in. Numbers that canonical JSON forbids, which rooms of
//! old versions may have, stand as we write them.
//!
//! Source: Matrix v1.19, appendices, "Canonical JSON".

use std::collections::BTreeMap;

/// One value; others by their place in the list of all.
enum Node {
    Leaf(String),
    Array(Vec<usize>),
    /// Of two members with one key the last counts, as in other readers.
    Object(BTreeMap<String, usize>),
}

/// A value that is written, and what of it has been.
enum Writing {
    Value(usize),
    Text(String),
}

/// Returns the canonical form of a JSON text.
///
/// # Errors
/// Why it is no JSON.
pub fn canonical(text: &str) -> Result<String, &'static str> {
    Ok(write(read(text)?, text.len()))
}

/// Reads a text; the first value is the whole.
fn read(text: &str) -> Result<Vec<Node>, &'static str> {
    let mut reader = Reader { text, at: 0 };
    let mut nodes = Vec::new();
    // Arrays and objects that are not closed yet, and the key of an object's next member.
    let mut open: Vec<(usize, Option<String>)> = Vec::new();
    loop {
        let node = reader.value()?;
        let (place, is_container) = (nodes.len(), !matches!(node, Node::Leaf(_)));
        let is_object = matches!(node, Node::Object(_));
        nodes.push(node);
        if let Some((parent, key)) = open.last_mut() {
            match (&mut nodes[*parent], key.take()) {
                (Node::Object(members), Some(key)) => drop(members.insert(key, place)),
                (Node::Array(values), _) => values.push(place),
                _ => return Err("a member without a key"),
            }
        }
        if is_container && !reader.take(if is_object { b'}' } else { b']' }) {
            let key = if is_object { Some(reader.key()?) } else { None };
            open.push((place, key));
            continue;
        }
        // What is complete may complete what it is in.
        loop {
            let Some((parent, key)) = open.last_mut() else {
                return if reader.is_at_end() { Ok(nodes) } else { Err("something follows") };
            };
            let is_object = matches!(nodes[*parent], Node::Object(_));
            if reader.take(b',') {
                *key = if is_object { Some(reader.key()?) } else { None };
                break;
            }
            if !reader.take(if is_object { b'}' } else { b']' }) {
                return Err("a value is followed by neither a comma nor an end");
            }
            open.pop();
        }
    }
}

fn write(mut nodes: Vec<Node>, bytes: usize) -> String {
    let mut written = String::with_capacity(bytes);
    let mut left = vec![Writing::Value(0)];
    while let Some(next) = left.pop() {
        let place = match next {
            Writing::Text(text) => {
                written.push_str(&text);
                continue;
            }
            Writing::Value(place) => place,
        };
        match std::mem::replace(&mut nodes[place], Node::Leaf(String::new())) {
            Node::Leaf(text) => written.push_str(&text),
            Node::Array(values) => {
                left.push(Writing::Text("]".to_owned()));
                for (n, value) in values.into_iter().enumerate().rev() {
                    left.push(Writing::Value(value));
                    left.push(Writing::Text(if n == 0 { "" } else { "," }.to_owned()));
                }
                written.push('[');
            }
            Node::Object(members) => {
                left.push(Writing::Text("}".to_owned()));
                for (n, (key, value)) in members.into_iter().enumerate().rev() {
                    let key = serde_json::Value::String(key);
                    left.push(Writing::Value(value));
                    left.push(Writing::Text(format!("{}{key}:", if n == 0 { "" } else { "," })));
                }
                written.push('{');
            }
        }
    }
    written
}

/// Reads a text from its beginning to its end.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Reads a value, or the beginning of an array or object. An empty one is closed by who asks.
    fn value(&mut self) -> Result<Node, &'static str> {
        match self.peek().ok_or("a value is missing")? {
            b'{' => {
                self.at += 1;
                Ok(Node::Object(BTreeMap::new()))
            }
            b'[' => {
                self.at += 1;
                Ok(Node::Array(Vec::new()))
            }
            b'"' => {
                let text: String = serde_json::from_str(self.quoted()?).map_err(|_| "a text")?;
                Ok(Node::Leaf(serde_json::Value::String(text).to_string()))
            }
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                self.at += end;
                let word = &rest[..end];
                if matches!(word, "true" | "false" | "null") {
                    return Ok(Node::Leaf(word.to_owned()));
                }
                if word == "-0" {
                    return Ok(Node::Leaf("0".to_owned()));
                }
                let number: serde_json::Number =
                    serde_json::from_str(word).map_err(|_| "something that is no value")?;
                Ok(Node::Leaf(number.to_string()))
            }
        }
    }

    fn key(&mut self) -> Result<String, &'static str> {
        if self.peek() != Some(b'"') {
            return Err("a key is missing");
        }
        let key = serde_json::from_str(self.quoted()?).map_err(|_| "a key that is no text")?;
        if self.take(b':') { Ok(key) } else { Err("a key without a value") }
    }

    /// Takes a text with its quotes.
    fn quoted(&mut self) -> Result<&'t str, &'static str> {
        let bytes = self.text.as_bytes();
        let begin = self.at;
        self.at += 1;
        loop {
            match bytes.get(self.at).ok_or("a text does not end")? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(begin..self.at).ok_or("a text does not end")
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::CanonicalJsonValue;

    use super::*;

    #[test]
    fn it_is_what_the_library_makes_of_what_it_takes() {
        for text in [
            "{}",
            "[]",
            " { \"b\" : [ 1 , {} , [ ] ], \"a\":\"\\u00e4\\n\\\"\" , \"\":null } ",
            "{\"one\":1,\"two\":\"Two\",\"a\":{\"z\":true,\"y\":false}}",
            "{\"本\":2,\"日\":1}",
            "{\"a\":\"\\u65e5\"}",
            "{\"a\":1,\"a\":2}",
            "\"\\/\\u0000\\ud83d\\ude00\"",
            "[9007199254740991,-9007199254740991]",
        ] {
            let known: CanonicalJsonValue = serde_json::from_str(text).unwrap();
            assert_eq!(canonical(text).unwrap(), known.to_string(), "{text}");
        }
        assert_eq!(canonical("[1.5, 1e3, -0]").unwrap(), "[1.5,1000.0,0]");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "]",
            "{]",
            "[}",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{,}",
            "[,]",
            "1 2",
            "{} {}",
            "\"",
            "\"\\",
            "\"\\\"",
            "\"\n\"",
            "\"\\ud800\"",
            "nul",
            "01",
            "+1",
            "1.",
            "[1 2]",
            "{\"a\" 1}",
            "\"é\\",
            "'a'",
        ] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_costs_neither_a_stack_nor_its_square() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(canonical(&deep).unwrap() == deep);
        assert!(canonical(&deep[..1_500_000]).is_err());
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(canonical(&deep).unwrap() == deep);
    }
}
