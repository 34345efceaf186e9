//! Statements and the values bound to them: the only way to bind a value. PostgreSQL keeps no text with
//! U+0000 and SQLite cuts it in some places and not in others, so a text that has one is bound to neither:
//! the statement is not run and fails with [`StorageError::NotText`]. What is
//! copied out of an event's content, which may hold anything, leaves the character out.
//!
//! JSON is text without U+0000, whatever it says: there that is written as an escape.
//!
//! [`StorageError::NotText`]: crate::StorageError::NotText

use sqlx::{
    Database, Encode, Error, Executor, FromRow, IntoArguments, SqlSafeStr, Type, error::BoxDynError,
};

/// The text that was to be bound has U+0000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text contains U+0000")]
pub(crate) struct NotText;

/// A value that can be bound.
pub(crate) trait Value {
    /// What the engines are given.
    type Bound;

    /// Makes sure that both engines keep it.
    fn bound(self) -> Result<Self::Bound, NotText>;
}

macro_rules! plain {
    ($($kind:ty),* $(,)?) => {
        $(impl Value for $kind {
            type Bound = Self;
            fn bound(self) -> Result<Self, NotText> {
                Ok(self)
            }
        })*
    };
}

plain!(
    i64,
    i32,
    bool,
    f64,
    Vec<u8>,
    &[u8],
    Vec<Option<i64>>,
    Vec<Option<Vec<u8>>>,
    Vec<Option<&[u8]>>,
    Vec<i64>
);

impl Value for String {
    type Bound = Self;
    fn bound(self) -> Result<Self, NotText> {
        require_text(&self).map(|()| self)
    }
}

impl<'t> Value for &'t str {
    type Bound = Self;
    fn bound(self) -> Result<&'t str, NotText> {
        require_text(self).map(|()| self)
    }
}

impl<'t> Value for &'t String {
    type Bound = &'t str;
    fn bound(self) -> Result<&'t str, NotText> {
        self.as_str().bound()
    }
}

impl Value for Vec<Option<String>> {
    type Bound = Self;
    fn bound(self) -> Result<Self, NotText> {
        self.iter().flatten().try_for_each(|text| require_text(text))?;
        Ok(self)
    }
}

impl Value for Vec<Option<&str>> {
    type Bound = Self;
    fn bound(self) -> Result<Self, NotText> {
        self.iter().flatten().try_for_each(|text| require_text(text))?;
        Ok(self)
    }
}

impl<T: Value> Value for Option<T> {
    type Bound = Option<T::Bound>;
    fn bound(self) -> Result<Self::Bound, NotText> {
        self.map(T::bound).transpose()
    }
}

/// Texts as the JSON array that `{TEXTS n}` takes.
#[derive(Debug, Clone)]
pub(crate) struct TextList(Result<String, NotText>);

impl Value for TextList {
    type Bound = String;
    fn bound(self) -> Result<String, NotText> {
        self.0
    }
}

/// Renders strings as the JSON array that `{TEXTS n}` binds.
pub(crate) fn text_list<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> TextList {
    let texts = values.into_iter().map(|value| {
        require_text(value.as_ref())?;
        Ok(serde_json::Value::from(value.as_ref()))
    });
    let texts: Result<Vec<serde_json::Value>, NotText> = texts.collect();
    TextList(texts.map(|texts| serde_json::Value::Array(texts).to_string()))
}

fn require_text(text: &str) -> Result<(), NotText> {
    if text.as_bytes().contains(&0) { Err(NotText) } else { Ok(()) }
}

fn require(values: Result<(), NotText>) -> Result<(), Error> {
    values.map_err(|error| Error::Encode(BoxDynError::from(error)))
}

/// Defines a statement over the driver's: its name, its parameters beside the engine, the driver's
/// statement.
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident<$($kind:ident)?> = $inner:ty) => {
        $(#[$doc])*
        #[must_use = "a statement does nothing until it is run"]
        pub(crate) struct $name<'q, DB: Database $(, $kind)?> {
            inner: $inner,
            values: Result<(), NotText>,
        }

        impl<'q, DB: Database $(, $kind)?> $name<'q, DB $(, $kind)?> {
            /// Binds the next parameter.
            pub(crate) fn bind<V>(mut self, value: V) -> Self
            where
                V: Value,
                V::Bound: Encode<'q, DB> + Type<DB> + 'q,
            {
                match value.bound() {
                    Ok(value) => self.inner = self.inner.bind(value),
                    Err(error) => self.values = Err(error),
                }
                self
            }
        }
    };
}

statement! {
    /// A statement that has no rows.
    Query<> = sqlx::query::Query<'q, DB, DB::Arguments>
}
statement! {
    /// A statement whose rows become values of a type.
    QueryAs<O> = sqlx::query::QueryAs<'q, DB, O, DB::Arguments>
}
statement! {
    /// A statement whose rows have one column that counts.
    QueryScalar<O> = sqlx::query::QueryScalar<'q, DB, O, DB::Arguments>
}

/// Makes a statement that has no rows.
#[expect(clippy::disallowed_methods, reason = "the place where texts are checked")]
pub(crate) fn query<'q, DB: Database>(sql: impl SqlSafeStr) -> Query<'q, DB> {
    Query { inner: sqlx::query(sql), values: Ok(()) }
}

/// Makes a statement whose rows become values of a type.
#[expect(clippy::disallowed_methods, reason = "the place where texts are checked")]
pub(crate) fn query_as<'q, DB, O>(sql: impl SqlSafeStr) -> QueryAs<'q, DB, O>
where
    DB: Database,
    O: for<'r> FromRow<'r, DB::Row>,
{
    QueryAs { inner: sqlx::query_as(sql), values: Ok(()) }
}

/// Makes a statement whose rows have one column that counts.
#[expect(clippy::disallowed_methods, reason = "the place where texts are checked")]
pub(crate) fn query_scalar<'q, DB, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, DB, O>
where
    DB: Database,
    (O,): for<'r> FromRow<'r, DB::Row>,
{
    QueryScalar { inner: sqlx::query_scalar(sql), values: Ok(()) }
}

/// Defines how a statement is run: what all rows, one row, or one or none come back as.
macro_rules! run_by {
    ($name:ident, $row:ty) => {
        impl<DB, O> $name<'_, DB, O>
        where
            DB: Database,
            DB::Arguments: IntoArguments<DB>,
            O: Send + Unpin,
            $row: for<'r> FromRow<'r, DB::Row> + Send + Unpin,
        {
            /// Returns all rows.
            pub(crate) async fn fetch_all<'c, E>(self, executor: E) -> Result<Vec<O>, Error>
            where
                E: Executor<'c, Database = DB>,
            {
                require(self.values)?;
                self.inner.fetch_all(executor).await
            }

            /// Returns the one row there must be.
            pub(crate) async fn fetch_one<'c, E>(self, executor: E) -> Result<O, Error>
            where
                E: Executor<'c, Database = DB>,
            {
                require(self.values)?;
                self.inner.fetch_one(executor).await
            }

            /// Returns the row if there is one.
            pub(crate) async fn fetch_optional<'c, E>(self, executor: E) -> Result<Option<O>, Error>
            where
                E: Executor<'c, Database = DB>,
            {
                require(self.values)?;
                self.inner.fetch_optional(executor).await
            }
        }
    };
}

run_by!(QueryAs, O);
run_by!(QueryScalar, (O,));

impl<DB> Query<'_, DB>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
{
    /// Runs a statement that has no rows.
    pub(crate) async fn execute<'c, E>(self, executor: E) -> Result<DB::QueryResult, Error>
    where
        E: Executor<'c, Database = DB>,
    {
        require(self.values)?;
        self.inner.execute(executor).await
    }
}

#[cfg(test)]
mod tests;
