//! What time alone brings about: timeouts, flips that wait, proofs that the lanes are alive.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Instance, busy};
use crate::stage::StoreId;
use crate::store::driver::PROBE_EVERY;

/// The finest step of the instance's clock for timeouts.
const TICK: Duration = Duration::from_millis(5);

// === impl Instance ===

impl Instance {
    /// Runs what time alone brings about. A task of its own, until dropped.
    pub async fn run_timer(self: Rc<Self>) {
        let mut probed = Instant::now();
        loop {
            let idle = !self.core().needs_time();
            if idle {
                self.timer_sleeps.set(true);
                let _ = tokio::time::timeout(PROBE_EVERY, self.timer.notified()).await;
            }
            tokio::time::sleep(TICK).await;
            self.tick(&mut probed);
            busy::look(&self);
        }
    }

    fn tick(&self, probed: &mut Instant) {
        let lane_timeout = self.config.borrow().lane_timeout.as_micros() as u64;
        let probe = probed.elapsed() >= PROBE_EVERY;
        {
            let mut core = self.core_mut();
            core.tick();
            core.try_flip();
            let now = core.now();
            for store in StoreId::ALL {
                if probe {
                    core.lane_mut(store).probe(now);
                }
                core.lane_mut(store).prove(now);
                let lane = core.lane(store);
                // What says on another connection that it is busy has not gone: its script ends, or is killed.
                if lane.is_silent_since(now.saturating_sub(lane_timeout)) && !self.is_busy(store, lane) {
                    self.drop_lane(store);
                }
            }
        }
        if probe {
            *probed = Instant::now();
        }
        self.settle();
    }
}
