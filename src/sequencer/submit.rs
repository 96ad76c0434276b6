//! Requests enter the one order here.

use crate::command::Miss;

use super::op::Policy;
use super::submission::{Path, Submission};
use super::{Reads, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    /// Puts a request into the order, or holds it behind a fence: then the client is to be read
    /// no further until it is woken ([`Sequencer::is_held`]).
    #[inline(always)]
    pub fn submit(&mut self, submission: &Submission<'_>) {
        if !self.holds.is_open() && self.holds.blocks(&submission.footprint) {
            self.hold_submission(submission);
            return;
        }
        self.place(submission);
    }

    #[inline(always)]
    pub(super) fn place(&mut self, submission: &Submission<'_>) {
        if !self.stage().is_dual() {
            self.place_single(submission);
            return;
        }
        if !submission.is_alone() {
            self.hurry_lone_read(submission.client);
        }
        match submission.path {
            Path::Default => self.place_single(submission),
            Path::Read(miss) => self.place_read(submission, miss),
            Path::Scan(cursor, miss) => self.place_scan(submission, cursor, Some(miss)),
            Path::KeyspaceScan(cursor) => self.place_scan(submission, cursor, None),
            Path::Write => self.place_write(submission),
        }
    }

    pub(super) fn place_single(&mut self, submission: &Submission<'_>) {
        let scan = submission.scan();
        let issuer = scan.and_then(|(scan, cursor)| self.cursors.issuer(scan, cursor));
        let store = issuer.unwrap_or(self.default_store());
        let (key, op) = self.open(submission, Policy::Single(store));
        if let Some((scan, _)) = scan {
            op.extra_mut().scan = Some(scan);
        }
        self.send_op(key, &submission.frame, [store], 1);
    }

    fn place_scan(&mut self, submission: &Submission<'_>, cursor: u64, miss: Option<Miss>) {
        let first_page = cursor == 0;
        match miss {
            Some(miss) if first_page && self.settings.reads == Reads::Fallback && submission.is_alone() => {
                self.place_lone(submission, miss);
            }
            _ => self.place_single(submission),
        }
    }
}
