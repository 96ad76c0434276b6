//! The two feature flags of an instance and the stage they make.
//!
//! Pure. The table is GitLab's rollout: `secondary_only` → `dual_secondary_default` →
//! `dual_primary_default` → `primary_only`, and back the same way.

use std::fmt;

/// One of the two stores of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreId {
    /// The store being migrated **to**.
    Primary = 0,
    /// The store being migrated **from**.
    Secondary = 1,
}

/// How many stores an instance has.
pub const STORES: usize = 2;

// === impl StoreId ===

impl StoreId {
    /// Both stores, in index order.
    pub const ALL: [StoreId; STORES] = [StoreId::Primary, StoreId::Secondary];

    /// The store's place in arrays indexed by store.
    pub fn index(self) -> usize {
        self as usize
    }

    /// This store's of the two.
    pub fn pick<T>(self, pair: &[T; STORES]) -> &T {
        let [primary, secondary] = pair;
        match self {
            StoreId::Primary => primary,
            StoreId::Secondary => secondary,
        }
    }

    /// The store that this one is not.
    pub fn other(self) -> StoreId {
        match self {
            StoreId::Primary => StoreId::Secondary,
            StoreId::Secondary => StoreId::Primary,
        }
    }

    /// The name used in `proxy.toml`, metrics, logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            StoreId::Primary => "primary",
            StoreId::Secondary => "secondary",
        }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two flags of one instance. Both default to off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `use_primary_and_secondary_stores_for_<instance>`
    pub use_both: bool,
    /// `use_primary_store_as_default_for_<instance>`
    pub primary_default: bool,
}

/// What the pair of flags means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// (off, off)
    SecondaryOnly,
    /// (on, off)
    DualSecondaryDefault,
    /// (on, on)
    DualPrimaryDefault,
    /// (off, on)
    PrimaryOnly,
}

// === impl Stage ===

impl Stage {
    /// All stages in the order of a rollout.
    pub const ALL: [Stage; 4] =
        [Stage::SecondaryOnly, Stage::DualSecondaryDefault, Stage::DualPrimaryDefault, Stage::PrimaryOnly];

    /// Do writes go to both stores?
    pub fn is_dual(self) -> bool {
        matches!(self, Stage::DualSecondaryDefault | Stage::DualPrimaryDefault)
    }

    /// The authority: the store whose reply a client gets.
    pub fn default_store(self) -> StoreId {
        match self {
            Stage::SecondaryOnly | Stage::DualSecondaryDefault => StoreId::Secondary,
            Stage::DualPrimaryDefault | Stage::PrimaryOnly => StoreId::Primary,
        }
    }

    /// The name used in `/status`, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Stage::SecondaryOnly => "secondary_only",
            Stage::DualSecondaryDefault => "dual_secondary_default",
            Stage::DualPrimaryDefault => "dual_primary_default",
            Stage::PrimaryOnly => "primary_only",
        }
    }

    /// The flags that make this stage.
    pub fn flags(self) -> Flags {
        Flags { use_both: self.is_dual(), primary_default: self.default_store() == StoreId::Primary }
    }

    /// May the stage change from `self` to `next` without being forced?
    ///
    /// The two jumps between the single-store stages are refused: one would serve a cold store,
    /// the other would lose every write since the secondary was left.
    pub fn may_become(self, next: Stage) -> bool {
        self == next || self.is_dual() || next.is_dual()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Flags ===

impl Flags {
    /// The stage that these flags make.
    pub fn stage(self) -> Stage {
        match (self.use_both, self.primary_default) {
            (false, false) => Stage::SecondaryOnly,
            (true, false) => Stage::DualSecondaryDefault,
            (true, true) => Stage::DualPrimaryDefault,
            (false, true) => Stage::PrimaryOnly,
        }
    }
}

/// The full name of the flag that turns dual on for `instance`.
pub fn use_both_flag(instance: &str) -> String {
    format!("use_primary_and_secondary_stores_for_{instance}")
}

/// The full name of the flag that makes the primary the default store of `instance`.
pub fn primary_default_flag(instance: &str) -> String {
    format!("use_primary_store_as_default_for_{instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_stages_are_one_to_one() {
        for stage in Stage::ALL {
            assert_eq!(stage.flags().stage(), stage);
        }
        assert_eq!(Flags::default().stage(), Stage::SecondaryOnly);
    }

    #[test]
    fn only_the_two_jumps_are_refused() {
        let refused: Vec<(Stage, Stage)> = Stage::ALL
            .into_iter()
            .flat_map(|from| Stage::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| !from.may_become(*to))
            .collect();
        assert_eq!(
            refused,
            [(Stage::SecondaryOnly, Stage::PrimaryOnly), (Stage::PrimaryOnly, Stage::SecondaryOnly)]
        );
    }
}
