//! Text for a person and for the peers' formats: sizes, columns, escapes.
