//! To come.

/// What can be told about a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptTraits {
    /// a
    pub literal_commands: bool,
    /// b
    pub may_choose: bool,
    /// c
    pub undeclared_keys_possible: bool,
}
/// analyse
pub fn analyse(_: &[u8]) -> ScriptTraits {
    ScriptTraits { literal_commands: false, may_choose: true, undeclared_keys_possible: false }
}
