use super::*;
use StoreId::{Primary, Secondary};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn facts(stage: Stage) -> Facts {
    let store = StoreFacts { up: true, ..StoreFacts::default() };
    Facts {
        stage: Some(stage),
        stores: [store; 2],
        flip_max_lag: 1000,
        quiet_period: 6 * HOUR,
        stage_age: 7 * HOUR,
        ..Facts::default()
    }
}

fn verified(age: Duration, equal: bool) -> Option<Verified> {
    Some(Verified { age, equal, outdated: None })
}

fn codes(step: Option<Step>) -> Vec<String> {
    step.map(|step| step.reasons.into_iter().map(|reason| reason.code).collect()).unwrap_or_default()
}

fn forward(facts: &Facts) -> Vec<String> {
    codes(judge(facts).forward)
}

fn back(facts: &Facts) -> Vec<String> {
    codes(judge(facts).back)
}

#[test]
fn every_stage_has_its_neighbours() {
    let names = Stage::ALL.map(|stage| {
        let Verdict { forward, back, .. } = judge(&facts(stage));
        (back.map(|step| step.to), forward.map(|step| step.to))
    });
    let named = |stage: Stage| Some(stage.name().to_owned());
    use Stage::{DualPrimaryDefault, DualSecondaryDefault, PrimaryOnly, SecondaryOnly};
    assert_eq!(
        names,
        [
            (None, named(DualSecondaryDefault)),
            (named(SecondaryOnly), named(DualPrimaryDefault)),
            (named(DualSecondaryDefault), named(PrimaryOnly)),
            (named(DualPrimaryDefault), None),
        ]
    );
}

#[test]
fn a_quiet_stage_is_safe_after_the_quiet_period() {
    let mut facts = facts(Stage::DualSecondaryDefault);
    assert!(forward(&facts).is_empty());
    facts.stage_age = 5 * HOUR;
    assert_eq!(forward(&facts), ["quiet_period"]);
    assert_eq!(judge(&facts).quiet_left_seconds, 3600);
    assert!(back(&facts).is_empty(), "the way back need not wait");
    facts.stage_age = 9 * HOUR;
    facts.signs[0] = Some(HOUR);
    assert_eq!(forward(&facts), ["fallbacks", "quiet_period"]);
    facts.signs[0] = Some(6 * HOUR);
    assert!(forward(&facts).is_empty());
}

#[test]
fn a_clean_verification_ends_the_quiet_period_until_something_is_amiss() {
    let mut facts = facts(Stage::DualPrimaryDefault);
    facts.stage_age = MINUTE;
    facts.signs[1] = Some(30 * MINUTE);
    facts.verified = verified(10 * MINUTE, true);
    assert!(forward(&facts).is_empty());
    assert_eq!(judge(&facts).quiet_left_seconds, 0);
    facts.signs[1] = Some(5 * MINUTE);
    assert_eq!(forward(&facts), ["differences", "quiet_period"]);
    facts.signs[1] = None;
    facts.verified = Some(Verified { age: MINUTE, equal: true, outdated: Some("x") });
    assert_eq!(forward(&facts), ["quiet_period"]);
    facts.verified = verified(MINUTE, false);
    assert_eq!(forward(&facts), ["verification", "quiet_period"]);
    assert_eq!(back(&facts), ["verification"]);
}

#[test]
fn going_back_to_the_store_that_answers_anyway_needs_no_equal_stores() {
    let mut facts = facts(Stage::DualSecondaryDefault);
    facts.verified = verified(MINUTE, false);
    assert_eq!(forward(&facts), ["verification"]);
    assert!(back(&facts).is_empty());
}

#[test]
fn a_missing_command_is_not_excused_by_a_verification() {
    let mut facts = facts(Stage::DualSecondaryDefault);
    facts.verified = verified(MINUTE, true);
    facts.signs[4] = Some(HOUR);
    facts.missing = vec!["foo.bar".to_owned()];
    let step = judge(&facts).forward.expect("a next stage");
    assert_eq!(codes(Some(step.clone())), ["method_missing"]);
    assert!(step.reasons[0].text.contains("foo.bar"), "{step:?}");
}

#[test]
fn what_is_out_of_sync_stands_in_the_way_of_the_store_it_concerns() {
    let mut facts = facts(Stage::DualPrimaryDefault);
    facts.verified = verified(MINUTE, true);
    facts.stores[Secondary.index()].suspects = 3;
    assert!(forward(&facts).is_empty());
    assert_eq!(back(&facts), ["suspect_keys"]);
    facts.stores[Primary.index()] = StoreFacts { up: false, lag: 2000, behind: true, suspects: 1, stuck: 1 };
    facts.doubted = Some("x".to_owned());
    facts.backfill = Some(40);
    facts.owes_walk = true;
    facts.held = Some(HeldFlip { wanted: Stage::PrimaryOnly, reason: "x".to_owned() });
    facts.same_server = true;
    assert_eq!(
        forward(&facts),
        [
            "same_server",
            "held_flip",
            "store_down",
            "source_in_doubt",
            "behind",
            "suspect_keys",
            "stuck_keys",
            "lag",
            "backfill",
            "undeclared_keys"
        ]
    );
}

#[test]
fn dual_needs_both_stores() {
    for stage in [Stage::SecondaryOnly, Stage::PrimaryOnly] {
        let mut facts = facts(stage);
        facts.stage_age = Duration::ZERO;
        let step = |facts: &Facts| match stage {
            Stage::SecondaryOnly => forward(facts),
            _ => back(facts),
        };
        assert!(step(&facts).is_empty());
        for store in StoreId::ALL {
            let mut facts = facts.clone();
            facts.stores[store.index()].up = false;
            assert_eq!(step(&facts), ["store_down"]);
        }
    }
}

#[test]
fn a_sign_is_quiet_since_it_was_last_seen() {
    let mut quiet = Quiet::new(0, [5, 0, 0, 0, 0]);
    quiet.observe(10, [5, 0, 0, 0, 0]);
    assert_eq!(quiet.ages(20), [None; SIGNS]);
    quiet.observe(1_000_000, [6, 0, 0, 0, 1]);
    let second = Some(Duration::from_secs(1));
    assert_eq!(quiet.ages(2_000_000), [second, None, None, None, second]);
    assert_eq!(quiet.age(2_000_000), Duration::from_secs(2));
}

#[test]
fn what_is_held_back_stands_in_the_way_of_another_step_until_it_is_withdrawn() {
    let mut facts = facts(Stage::DualSecondaryDefault);
    facts.verified = verified(MINUTE, true);
    facts.held = Some(HeldFlip { wanted: Stage::DualPrimaryDefault, reason: "it lags".to_owned() });
    let verdict = judge(&facts);
    let text = |step: &Option<Step>| step.as_ref().expect("a step").reasons[0].text.clone();
    assert!(text(&verdict.forward).contains("held back: it lags"), "{verdict:?}");
    let back = text(&verdict.back);
    assert!(back.contains("write dual_secondary_default back first") && !back.contains("lags"), "{back}");
}
