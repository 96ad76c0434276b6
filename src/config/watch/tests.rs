use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::config::edit::{Jump, set_judged_flag};
use crate::stage::Stage;

/// Far above what anything here takes, except where the slow poll is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

fn text(flags: &str, extra: &str) -> String {
    format!(
        "[instances.jobs]\nlisten = \"127.0.0.1:6380\"\nprimary = \"redis://127.0.0.1:7001\"\n\
         secondary = \"redis://127.0.0.1:7002\"\n{extra}\n[feature_flags]\n{flags}\n"
    )
}

fn flags(use_both: bool, primary_default: bool) -> String {
    format!(
        "use_primary_and_secondary_stores_for_jobs = {use_both}\n\
         use_primary_store_as_default_for_jobs = {primary_default}"
    )
}

/// SIGHUP reaches every watcher of the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Followed {
    directory: tempfile::TempDir,
    path: PathBuf,
    snapshots: watch::Receiver<Arc<Config>>,
    outcomes: mpsc::UnboundedReceiver<ReloadOutcome>,
}

impl Followed {
    /// Starts to follow what `place` has put at the path it returns.
    async fn start(place: impl FnOnce(&Path) -> PathBuf) -> Followed {
        let directory = tempfile::tempdir().unwrap();
        let path = place(directory.path());
        let config = load::load(&path).unwrap().config;
        let (sender, snapshots) = watch::channel(Arc::new(config));
        let (report, outcomes) = mpsc::unbounded_channel();
        let watcher =
            Watcher::new(sender, move |outcome: &ReloadOutcome| drop(report.send(outcome.clone()))).unwrap();
        tokio::spawn(watcher.run());
        Followed { directory, path, snapshots, outcomes }
    }

    async fn outcome(&mut self) -> ReloadOutcome {
        timeout(PATIENCE, self.outcomes.recv()).await.expect("no outcome in time").expect("the watcher ended")
    }

    async fn applied(&mut self) -> Vec<String> {
        match self.outcome().await {
            ReloadOutcome::Applied { restart_only } => restart_only,
            other => panic!("{other:?}"),
        }
    }

    async fn invalid(&mut self) -> String {
        match self.outcome().await {
            ReloadOutcome::Invalid(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn stage(&self) -> Stage {
        self.snapshots.borrow().flags("jobs").stage()
    }
}

fn plain(directory: &Path) -> PathBuf {
    let path = directory.join("proxy.toml");
    fs::write(&path, text("", "")).unwrap();
    path
}

fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn a_rename_a_write_in_place_and_a_new_file_are_seen() {
    run(async {
        let mut followed = Followed::start(plain).await;
        rename_over(&followed.path, &text(&flags(true, false), ""));
        assert!(followed.applied().await.is_empty());
        assert_eq!(followed.stage(), Stage::DualSecondaryDefault);

        fs::write(&followed.path, text(&flags(true, true), "reads = \"default\"")).unwrap();
        followed.applied().await;
        assert_eq!(followed.stage(), Stage::DualPrimaryDefault);
        assert_eq!(followed.snapshots.borrow().instances["jobs"].reads, crate::config::Reads::Default);

        fs::remove_file(&followed.path).unwrap();
        assert!(followed.invalid().await.contains("cannot read"));
        fs::write(&followed.path, text(&flags(false, true), "")).unwrap();
        followed.applied().await;
        assert_eq!(followed.stage(), Stage::PrimaryOnly);
    });
}

#[test]
fn an_invalid_file_changes_nothing_and_tells_every_error() {
    run(async {
        let mut followed = Followed::start(plain).await;
        let before = followed.snapshots.borrow().clone();
        rename_over(&followed.path, &text(&flags(true, false), "lisen = 1\nreply_timeout = 5"));
        let errors = followed.invalid().await;
        assert!(
            errors.contains(":5:1: unknown key 'lisen'") && errors.contains(":6:17: 'reply_timeout'"),
            "{errors}"
        );
        assert!(Arc::ptr_eq(&before, &followed.snapshots.borrow()));

        rename_over(&followed.path, &text(&flags(true, false), ""));
        followed.applied().await;
    });
}

#[test]
fn a_jump_is_refused_and_allowed_by_the_setting() {
    run(async {
        let mut followed = Followed::start(plain).await;
        rename_over(&followed.path, &text(&flags(false, true), ""));
        let errors = followed.invalid().await;
        assert!(errors.contains("can't go from secondary_only to primary_only"), "{errors}");
        assert_eq!(followed.stage(), Stage::SecondaryOnly);

        let allowed = format!("{}\nallow_stage_jump = [\"jobs\"]", flags(false, true));
        rename_over(&followed.path, &text(&allowed, ""));
        followed.applied().await;
        assert_eq!(followed.stage(), Stage::PrimaryOnly);
    });
}

#[test]
fn restart_only_keys_are_named_and_keep_their_values() {
    run(async {
        let mut followed = Followed::start(plain).await;
        let moved = text(&flags(true, false), "heavy_bytes = \"1mb\"")
            .replace(":6380", ":6390")
            .replace(":7001", ":7009");
        rename_over(&followed.path, &format!("{moved}[process]\nthreads = 2\n"));
        assert_eq!(
            followed.applied().await,
            ["process.threads", "instances.jobs.listen", "instances.jobs.primary"]
        );
        let config = followed.snapshots.borrow().clone();
        assert_eq!(config.instances["jobs"].listen.to_string(), "127.0.0.1:6380");
        assert_eq!(config.instances["jobs"].heavy_bytes.bytes(), 1 << 20);
        assert_eq!((config.process.threads, followed.stage()), (1, Stage::DualSecondaryDefault));
    });
}

#[test]
fn hangup_looks_even_when_nothing_changed() {
    run(async {
        let mut followed = Followed::start(plain).await;
        hang_up();
        assert_eq!(followed.outcome().await, ReloadOutcome::Unchanged);
        rename_over(&followed.path, "nonsense");
        followed.invalid().await;
        hang_up();
        assert!(followed.invalid().await.contains("not TOML"));
    });
}

fn hang_up() {
    assert!(Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap().success());
}

#[test]
fn a_swapped_link_as_of_kubernetes_is_seen() {
    run(async {
        let version = |directory: &Path, name: &str, text: &str| {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("proxy.toml"), text).unwrap();
            let link = directory.join("..data_tmp");
            symlink(name, &link).unwrap();
            fs::rename(link, directory.join("..data")).unwrap();
        };
        let mut followed = Followed::start(|directory| {
            version(directory, "..1", &text("", ""));
            symlink("..data/proxy.toml", directory.join("proxy.toml")).unwrap();
            directory.join("proxy.toml")
        })
        .await;
        for (name, both) in [("..2", true), ("..3", false)] {
            version(followed.directory.path(), name, &text(&flags(both, false), ""));
            followed.applied().await;
            assert_eq!(followed.stage().is_dual(), both);
        }
    });
}

#[test]
fn a_change_behind_a_link_is_seen() {
    run(async {
        let mut followed = Followed::start(|directory| {
            fs::create_dir(directory.join("real")).unwrap();
            fs::create_dir(directory.join("etc")).unwrap();
            fs::write(directory.join("real/proxy.toml"), text("", "")).unwrap();
            symlink("../real/proxy.toml", directory.join("etc/proxy.toml")).unwrap();
            directory.join("etc/proxy.toml")
        })
        .await;
        let flag = "use_primary_and_secondary_stores_for_jobs";
        set_judged_flag(&followed.path, flag, true, Jump::Refused, None).unwrap();
        followed.applied().await;
        assert_eq!(followed.stage(), Stage::DualSecondaryDefault);
    });
}

#[test]
fn a_replaced_directory_is_found() {
    run(async {
        let mut followed = Followed::start(|directory| {
            fs::create_dir(directory.join("etc")).unwrap();
            plain(&directory.join("etc"))
        })
        .await;
        let etc = followed.directory.path().join("etc");
        let new = followed.directory.path().join("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("proxy.toml"), text(&flags(true, false), "")).unwrap();
        // The first look has passed when a look on request is answered.
        hang_up();
        assert_eq!(followed.outcome().await, ReloadOutcome::Unchanged);
        fs::rename(&etc, followed.directory.path().join("old")).unwrap();
        fs::rename(&new, &etc).unwrap();
        followed.applied().await;
        assert_eq!(followed.stage(), Stage::DualSecondaryDefault);
        // The new directory is watched now.
        rename_over(&followed.path, &text(&flags(true, true), ""));
        followed.applied().await;
    });
}

#[test]
fn a_change_between_load_and_start_is_found() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = plain(directory.path());
        let config = load::load(&path).unwrap().config;
        rename_over(&path, &text(&flags(true, false), ""));
        let (sender, mut snapshots) = watch::channel(Arc::new(config));
        tokio::spawn(Watcher::new(sender, |_: &ReloadOutcome| {}).unwrap().run());
        timeout(PATIENCE, snapshots.changed()).await.unwrap().unwrap();
        assert!(snapshots.borrow().flags("jobs").use_both);
    });
}

#[test]
fn ends_with_its_last_receiver() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let config = load::load(&plain(directory.path())).unwrap().config;
        let (sender, snapshots) = watch::channel(Arc::new(config));
        let task = tokio::spawn(Watcher::new(sender, |_: &ReloadOutcome| {}).unwrap().run());
        drop(snapshots);
        timeout(PATIENCE, task).await.unwrap().unwrap();
    });
}

#[test]
fn a_file_that_is_still_written_does_not_count() {
    run(async {
        let content = |text: &str| Ok((text.to_owned(), 0o644));
        let mut looks = ["ab", "abc", "abcd", "abcd", "abcde"].map(content).into_iter();
        let settled = settled(content("a"), || std::future::ready(looks.next().unwrap())).await;
        assert_eq!(settled, content("abcd"));
    });
}
