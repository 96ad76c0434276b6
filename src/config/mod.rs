//! `proxy.toml`: schema, validation with positions, flags, watching, editing.
