//! An operation of the specification, as tests ask about it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::choices::Choice;

/// A parameter of an operation.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// `path`, `query` or `header`.
    pub place: String,
    /// It cannot be left out.
    pub required: bool,
    /// A value for it.
    pub example: Option<Value>,
    /// The values it may have; empty where it may have any.
    pub values: Vec<String>,
}

/// An operation of the specification.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The specification's name for it.
    pub id: String,
    /// The HTTP method in capitals.
    pub method: String,
    /// The whole path, with names in braces.
    pub path: String,
    /// The file that describes it, without its ending.
    pub file: String,
    /// Clients should not use it any more.
    pub deprecated: bool,
    /// It takes an access token.
    pub authenticated: bool,
    /// And can be asked without one.
    pub token_optional: bool,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// It takes a JSON body.
    pub takes_json: bool,
    /// A JSON body for it.
    pub example: Option<Value>,
    /// Where the body takes one of a few values.
    pub choices: Vec<Choice>,
    /// And where any text.
    pub texts: Vec<Choice>,
    /// The schema of the JSON body of each status; `None` when that status has no JSON.
    pub answers: BTreeMap<u16, Option<String>>,
}
