//! What md members say together: who is current, who is stale, what can be started and how.
