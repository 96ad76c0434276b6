use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

const BOTH: &str = "use_primary_and_secondary_stores_for_jobs";
const DEFAULT: &str = "use_primary_store_as_default_for_jobs";

const HEAD: &str = r#"# our proxy
[instances.jobs] # locks
listen = "127.0.0.1:6380"
primary = "redis://127.0.0.1:7001"   # new
secondary = "redis://127.0.0.1:7002"
"#;

fn file(flags: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    fs::write(&path, format!("{HEAD}{flags}")).unwrap();
    (directory, path)
}

fn flags_after(path: &Path) -> String {
    fs::read_to_string(path).unwrap().strip_prefix(HEAD).expect("the head is untouched").to_owned()
}

fn set_flag(path: &Path, flag: &str, value: bool, jump: Jump) -> Result<Edited, EditError> {
    set_judged_flag(path, flag, value, jump, None)
}

#[test]
fn comments_and_spaces_stay() {
    let before = format!(
        "\n# the rollout\n[feature_flags]\n  {BOTH}  =  false   # since May\n{DEFAULT} = false\n# end\n"
    );
    let (_directory, path) = file(&before);
    let edited = set_flag(&path, BOTH, true, Jump::Refused).unwrap();
    assert_eq!((edited.before, edited.after), (Stage::SecondaryOnly, Stage::DualSecondaryDefault));
    assert!(edited.written);
    assert_eq!(flags_after(&path), before.replace("false   #", "true   #"));
}

#[test]
fn the_section_and_the_flag_are_made() {
    let (_directory, path) = file("");
    set_flag(&path, BOTH, true, Jump::Refused).unwrap();
    assert_eq!(flags_after(&path), format!("\n[feature_flags]\n{BOTH} = true\n"));
    set_flag(&path, DEFAULT, true, Jump::Refused).unwrap();
    assert_eq!(flags_after(&path), format!("\n[feature_flags]\n{BOTH} = true\n{DEFAULT} = true\n"));
}

#[test]
fn a_flag_that_is_already_so_is_not_written() {
    let (_directory, path) = file(&format!("[feature_flags]\n{BOTH} = true\n"));
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(!set_flag(&path, BOTH, true, Jump::Refused).unwrap().written);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn a_step_is_made_only_from_the_stage_that_it_was_judged_from() {
    let (_directory, path) = file(&format!("[feature_flags]\n{BOTH} = true\n"));
    // Somebody judged both of these while the file asked for dual_secondary_default.
    let judged = Some(Stage::DualSecondaryDefault);
    set_judged_flag(&path, DEFAULT, true, Jump::Refused, judged).unwrap();
    let Err(EditError::Outrun(now)) = set_judged_flag(&path, BOTH, false, Jump::Refused, judged) else {
        panic!("a step to primary_only that nobody has judged")
    };
    assert_eq!(now, Stage::DualPrimaryDefault);
    assert!(flags_after(&path).contains(&format!("{BOTH} = true")));
}

#[test]
fn who_writes_back_what_is_in_effect_allows_for_no_jump() {
    // By hand: a jump that the running proxy has refused.
    let (_directory, path) = file(&format!("[feature_flags]\n{DEFAULT} = true\n"));
    let back = set_flag(&path, DEFAULT, false, Jump::WrittenBack).unwrap();
    assert_eq!((back.before, back.after), (Stage::PrimaryOnly, Stage::SecondaryOnly));
    assert!(!flags_after(&path).contains("allow_stage_jump"));
}

#[test]
fn jumps_are_refused_unless_forced() {
    let (_directory, path) = file("");
    let Err(EditError::Jump(jump)) = set_flag(&path, DEFAULT, true, Jump::Refused) else {
        panic!("not refused")
    };
    assert_eq!((jump.from, jump.to), (Stage::SecondaryOnly, Stage::PrimaryOnly));
    assert_eq!(flags_after(&path), "");

    assert_eq!(set_flag(&path, DEFAULT, true, Jump::Forced).unwrap().after, Stage::PrimaryOnly);
    let forced = flags_after(&path);
    assert!(forced.contains("allow_stage_jump = [\"jobs\"]"), "{forced}");
    let allowed = load::load(&path).unwrap();
    assert!(allowed.config.allow_stage_jump.contains("jobs"));
    assert_eq!(allowed.warnings.len(), 1);

    set_flag(&path, BOTH, true, Jump::Refused).unwrap();
    assert!(!flags_after(&path).contains("allow_stage_jump"));
}

#[test]
fn the_permission_of_another_instance_stays() {
    let other = "\n[instances.other]\nlisten = \"127.0.0.1:6381\"\nprimary = \"redis://a\"\nsecondary = \"redis://b\"\n";
    let (_directory, path) =
        file(&format!("{other}[feature_flags]\nallow_stage_jump = [\"other\"] # tonight\n"));
    set_flag(&path, BOTH, true, Jump::Refused).unwrap();
    assert!(flags_after(&path).contains("allow_stage_jump = [\"other\"] # tonight\n"));
    set_flag(&path, BOTH, false, Jump::Refused).unwrap();
    set_flag(&path, DEFAULT, true, Jump::Forced).unwrap();
    assert!(flags_after(&path).contains("allow_stage_jump = [\"other\", \"jobs\"] # tonight\n"));
}

#[test]
fn unknown_flags_are_named() {
    let (_directory, path) = file("");
    let message = |flag| set_flag(&path, flag, true, Jump::Refused).unwrap_err().to_string();
    assert!(message("use_primary_and_secondary_stores_for_job").contains(&format!("did you mean '{BOTH}'?")));
    assert!(message("use_primary_store_as_defualt_for_jobs").contains(&format!("did you mean '{DEFAULT}'?")));
    assert!(message("x").contains("use_primary_store_as_default_for_NAME"));
}

#[test]
fn an_invalid_file_is_left_alone() {
    let (_directory, path) = file("lisen = 1\n");
    let error = set_flag(&path, BOTH, true, Jump::Refused).unwrap_err();
    assert!(matches!(&error, EditError::Invalid(_)) && error.to_string().contains(":6:1:"), "{error}");
    assert_eq!(flags_after(&path), "lisen = 1\n");
}

#[test]
fn links_and_permissions_stay() {
    let (directory, path) = file("");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link.toml");
    symlink("proxy.toml", &link).unwrap();
    set_flag(&link, BOTH, true, Jump::Refused).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert!(flags_after(&path).contains(BOTH));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn a_file_that_changed_meanwhile_is_not_replaced() {
    let (directory, path) = file("");
    assert!(matches!(replace(&path, "something else", "new"), Err(ReplaceError::Changed)));
    assert_eq!(flags_after(&path), "");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn editors_at_the_same_time_don_t_undo_each_other() {
    let mut text = String::from(HEAD);
    for i in 0..8 {
        text += &format!(
            "[instances.i{i}]\nlisten = \"127.0.0.1:70{i}0\"\nprimary = \"redis://a\"\nsecondary = \"redis://b\"\n"
        );
    }
    let (_directory, path) = file(text.strip_prefix(HEAD).unwrap());
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || {
                set_flag(path, &format!("use_primary_and_secondary_stores_for_i{i}"), true, Jump::Refused)
                    .unwrap()
            });
        }
    });
    let config = load::load(&path).unwrap().config;
    assert!((0..8).all(|i| config.flags(&format!("i{i}")).use_both));
}

#[test]
fn line_ends_stay() {
    let (_directory, path) = file("");
    let dos = format!("{HEAD}[feature_flags]\n{BOTH} = false # x\n").replace('\n', "\r\n");
    fs::write(&path, &dos).unwrap();
    set_flag(&path, BOTH, true, Jump::Refused).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), dos.replace("false", "true"));
}
