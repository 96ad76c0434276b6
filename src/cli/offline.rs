//! Two stores without a running proxy: the same machinery, within this process, without clients.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use toml_edit::Value;

use super::compare::shown;
use super::progress::{Progress, thousands};
use super::{Exit, complain};
use crate::admin::verification::VerifyReport;
use crate::config::{Config, StoreConfig};
use crate::instance::verify::{Mend, Sample};
use crate::instance::{self, Instance};
use crate::metrics::Metrics;
use crate::stage::{StoreId, use_both_flag};
use crate::state::StateFile;

/// What the two are called within this process; nobody else has heard of it.
const NAME: &str = "both_stores";
/// How often to look how far something is.
pub const LOOK: Duration = Duration::from_millis(100);
/// How long both stores may take until they are connected.
const CONNECTED: Duration = Duration::from_secs(10);

/// Runs `work` on an instance of these two stores. Neither is the server of any client here.
pub fn with_stores<T>(
    primary: &str,
    secondary: &str,
    work: impl AsyncFnOnce(&Rc<Instance>) -> Result<T, Exit>,
) -> Result<T, Exit> {
    // The name also names the connections: those of a proxy, or of another run, must not be ended.
    let name = NAME.to_owned();
    let config = configure(&name, primary, secondary)?;
    let failed = |error: &dyn std::fmt::Display| {
        complain(error);
        Exit::Failed
    };
    let metrics = Metrics::new().map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let instance = Instance::new(&name, &config, &metrics, Arc::new(StateFile::nowhere()));
        instance::spawn_tasks(&instance);
        connected(&instance).await?;
        work(&instance).await
    })
}

fn configure(name: &str, primary: &str, secondary: &str) -> Result<Config, Exit> {
    for url in [primary, secondary] {
        if let Err(problem) = StoreConfig::parse(url) {
            complain(format_args!("{}: {problem}", shown(url)));
            return Err(Exit::Invalid);
        }
    }
    let [primary, secondary] = [primary, secondary].map(|url| Value::from(url).to_string());
    // Nobody listens: the address is only there because an instance has one.
    let text = format!(
        "[instances.{name}]\nlisten = \"unix:///multistore-offline\"\nprimary = {primary}\nsecondary = {secondary}\n\
         reply_timeout = \"30s\"\nlane_timeout = \"1m\"\nbackground_latency = \"20ms\"\n[feature_flags]\n{} = true\n",
        use_both_flag(name)
    );
    Config::from_toml("the command line", &text).map(|loaded| loaded.config).map_err(|error| {
        complain(format_args!("{error}"));
        Exit::Invalid
    })
}

async fn connected(instance: &Rc<Instance>) -> Result<(), Exit> {
    let up = |store: StoreId| instance.core().lane(store).is_up();
    let both = async {
        while !StoreId::ALL.into_iter().all(up) {
            sleep(LOOK).await;
        }
    };
    if timeout(CONNECTED, both).await.is_err() {
        for store in StoreId::ALL.into_iter().filter(|store| !up(*store)) {
            let why = instance.facts(store).last_error.unwrap_or_else(|| "no answer".to_owned());
            complain(format_args!("{}: {why}", instance.config().store(store)));
        }
        return Err(Exit::Failed);
    }
    if instance.core().same_server() {
        complain("both URLs lead to the same server and database");
        return Err(Exit::Invalid);
    }
    Ok(())
}

/// Compares the two stores of `instance`.
pub async fn compared(instance: &Rc<Instance>, sample: Sample, mend: Mend) -> Result<VerifyReport, Exit> {
    if let Err(why) = instance.begin_verification(sample, mend) {
        complain(why);
        return Err(Exit::Failed);
    }
    let mut progress = Progress::new();
    loop {
        sleep(LOOK).await;
        let report = instance.verification();
        if report.state != "running" {
            // The two are no instance's.
            return Ok(VerifyReport { instance: "both stores".to_owned(), ..report });
        }
        let share = report.keys_seen as f64 / report.keys_expected.max(1) as f64;
        progress.show("comparing", share, &format!("{} keys", thousands(report.keys_compared)));
    }
}
