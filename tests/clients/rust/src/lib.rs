//! What both programs share: a loop that ends when standard input does, with a line per round.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than any wait of a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The port that the first argument names.
pub fn port() -> u16 {
    std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: PROGRAM PORT")
}

/// Tells when standard input has ended.
#[derive(Clone, Default)]
pub struct Rounds(Arc<AtomicBool>);

impl Rounds {
    /// Begins to watch standard input.
    pub fn begin() -> Rounds {
        let rounds = Rounds::default();
        let ended = rounds.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.0.store(true, Ordering::Relaxed);
        });
        rounds
    }

    /// A round is complete. Whether there is to be another.
    pub fn next(&self) -> bool {
        println!("round");
        let _ = std::io::stdout().flush();
        !self.0.load(Ordering::Relaxed)
    }
}
