//! Pure: which reply answers an operation, and when.

use crate::stage::StoreId;

use super::op::{Policy, Reply};

/// What a settled reply means for an operation that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// This store's reply is the answer.
    Answer(StoreId),
    /// The secondary is asked now.
    AskSecondary,
    /// The two replies are merged.
    Merge,
    /// There is no answer: this store's failure is reported.
    Fail(StoreId),
}

/// What is known of one store's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not asked.
    Unsent,
    /// Owed.
    Pending,
    /// None will come.
    Failed,
    /// It is there, and is a hit.
    Hit,
    /// It is there, and is a miss or an error.
    Miss,
}

/// The store whose reply alone is the answer, if the policy names one.
pub fn listens_to(policy: Policy) -> Option<StoreId> {
    match policy {
        Policy::Single(store) | Policy::Authority(store) => Some(store),
        Policy::Both(_) | Policy::Lookup { .. } | Policy::Merge { .. } => None,
    }
}

/// Decides, given what is known of both stores' replies (indexed by store).
pub fn decide(policy: Policy, seen: [Seen; 2]) -> Step {
    match policy {
        Policy::Single(store) | Policy::Authority(store) => alone(store, seen),
        Policy::Both(store) => {
            if seen[store.other().index()] == Seen::Pending && seen[store.index()] != Seen::Failed {
                Step::Wait
            } else {
                alone(store, seen)
            }
        }
        Policy::Lookup { default, impatient } => lookup(default, impatient, seen),
        Policy::Merge { default } => merge(default, seen),
    }
}

fn alone(store: StoreId, seen: [Seen; 2]) -> Step {
    match seen[store.index()] {
        Seen::Hit | Seen::Miss => Step::Answer(store),
        Seen::Failed | Seen::Unsent => Step::Fail(store),
        Seen::Pending => Step::Wait,
    }
}

fn lookup(default: StoreId, impatient: bool, seen: [Seen; 2]) -> Step {
    let [primary, secondary] = seen;
    if primary == Seen::Hit {
        return Step::Answer(StoreId::Primary);
    }
    if primary == Seen::Pending {
        let enough = impatient && default == StoreId::Secondary;
        return match secondary {
            Seen::Hit | Seen::Miss if enough => Step::Answer(StoreId::Secondary),
            _ => Step::Wait,
        };
    }
    match secondary {
        Seen::Hit => Step::Answer(StoreId::Secondary),
        Seen::Pending => Step::Wait,
        Seen::Unsent => Step::AskSecondary,
        Seen::Miss if default == StoreId::Secondary || primary != Seen::Miss => {
            Step::Answer(StoreId::Secondary)
        }
        Seen::Miss => Step::Answer(StoreId::Primary),
        Seen::Failed if default == StoreId::Primary && primary == Seen::Miss => {
            Step::Answer(StoreId::Primary)
        }
        Seen::Failed => Step::Fail(default),
    }
}

fn merge(default: StoreId, seen: [Seen; 2]) -> Step {
    let here = |store: StoreId| matches!(seen[store.index()], Seen::Hit | Seen::Miss);
    if seen.contains(&Seen::Pending) {
        return Step::Wait;
    }
    if seen[StoreId::Primary.index()] == Seen::Hit {
        return Step::Answer(StoreId::Primary);
    }
    match (here(default), here(default.other())) {
        (true, true) => Step::Merge,
        (true, false) => Step::Answer(default),
        (false, true) if default == StoreId::Primary => Step::Answer(StoreId::Secondary),
        _ => Step::Fail(default),
    }
}

/// May this store's reply flow to the client before it is complete? Only large replies flow, and
/// the caller knows which of them may be misses.
pub fn may_stream(policy: Policy, store: StoreId, seen: [Seen; 2]) -> bool {
    let mut known = seen;
    known[store.index()] = Seen::Hit;
    !matches!(policy, Policy::Merge { .. } | Policy::Both(_)) && decide(policy, known) == Step::Answer(store)
}

/// What is known of a reply, given whether its frame would count as a hit.
pub fn seen(reply: &Reply, hit: impl FnOnce(&[u8]) -> bool) -> Seen {
    match reply {
        Reply::Unsent => Seen::Unsent,
        Reply::Pending => Seen::Pending,
        Reply::Failed(_) => Seen::Failed,
        Reply::Gone => Seen::Hit,
        Reply::Kept(kept) => match kept.frame() {
            Some(frame) if !hit(frame) => Seen::Miss,
            _ => Seen::Hit,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StoreId::{Primary, Secondary};

    const PATIENT: Policy = Policy::Lookup { default: Secondary, impatient: false };
    const HURRIED: Policy = Policy::Lookup { default: Secondary, impatient: true };
    const PRIMARY: Policy = Policy::Lookup { default: Primary, impatient: false };

    #[test]
    fn a_lookup_walks_from_primary_to_secondary() {
        use Seen::*;
        for (policy, primary, secondary, step) in [
            (PATIENT, Pending, Unsent, Step::Wait),
            (PATIENT, Hit, Unsent, Step::Answer(Primary)),
            (PATIENT, Miss, Unsent, Step::AskSecondary),
            (PATIENT, Failed, Unsent, Step::AskSecondary),
            (PATIENT, Miss, Pending, Step::Wait),
            (PATIENT, Miss, Hit, Step::Answer(Secondary)),
            (PATIENT, Miss, Miss, Step::Answer(Secondary)),
            (PATIENT, Miss, Failed, Step::Fail(Secondary)),
            (PATIENT, Pending, Hit, Step::Wait),
            (HURRIED, Pending, Hit, Step::Answer(Secondary)),
            (HURRIED, Pending, Miss, Step::Answer(Secondary)),
            (PRIMARY, Pending, Hit, Step::Wait),
            (PRIMARY, Miss, Miss, Step::Answer(Primary)),
            (PRIMARY, Miss, Failed, Step::Answer(Primary)),
            (PRIMARY, Failed, Miss, Step::Answer(Secondary)),
            (PRIMARY, Failed, Failed, Step::Fail(Primary)),
        ] {
            assert_eq!(decide(policy, [primary, secondary]), step, "{policy:?} {primary:?} {secondary:?}");
        }
    }

    #[test]
    fn ack_both_waits_for_the_other_but_not_with_bad_news() {
        let policy = Policy::Both(Secondary);
        assert_eq!(decide(policy, [Seen::Pending, Seen::Hit]), Step::Wait);
        assert_eq!(decide(policy, [Seen::Failed, Seen::Hit]), Step::Answer(Secondary));
        assert_eq!(decide(policy, [Seen::Pending, Seen::Failed]), Step::Fail(Secondary));
    }

    #[test]
    fn a_merge_needs_the_default_unless_the_primary_has_everything() {
        let cold = Policy::Merge { default: Secondary };
        assert_eq!(decide(cold, [Seen::Hit, Seen::Failed]), Step::Answer(Primary));
        assert_eq!(decide(cold, [Seen::Miss, Seen::Hit]), Step::Merge);
        assert_eq!(decide(cold, [Seen::Failed, Seen::Hit]), Step::Answer(Secondary));
        assert_eq!(decide(cold, [Seen::Miss, Seen::Failed]), Step::Fail(Secondary));
        let warm = Policy::Merge { default: Primary };
        assert_eq!(decide(warm, [Seen::Miss, Seen::Failed]), Step::Answer(Primary));
        assert_eq!(decide(warm, [Seen::Failed, Seen::Hit]), Step::Answer(Secondary));
    }
}
