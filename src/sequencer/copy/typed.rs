//! A copy with the commands of the key's type: where the payload is refused, or where the key is too large to be
//! moved in one go.
//!
//! The value is made under another name and takes its own when it is complete, so that nobody who reads the other
//! store meets half of it. A small one is made and renamed in one transaction. A large one is read page by page,
//! and each page written before the next is read. Until its last piece the key under construction expires by itself,
//! should nobody be left to remove it; and each piece makes sure that the earlier ones are still there.

use std::collections::VecDeque;

use crate::metrics::CopyOutcome;
use crate::mirror::by_type::{Copier, CopyError, FIRST_PAGE, Page, Piece, Type};
use crate::resp::value::Value;
use crate::resp::{Proto, encode};
use crate::stage::StoreId;

use super::super::Sequencer;
use super::super::lane::Context;
use super::super::op::{Owner, Policy};
use super::CopyKey;
use super::outcome::Verdict;
use super::rounds::Means;

/// A key under construction lives for so long after its last piece.
const SCRATCH_LIFE_MS: &[u8] = b"60000";

/// A copy by type under way.
#[derive(Debug)]
pub(super) struct Typed {
    /// By pieces, since it has so many bytes.
    size: Option<u64>,
    step: Step,
    /// The name under which the value is made.
    scratch: Vec<u8>,
    copier: Option<Copier>,
    /// What is to be written.
    pieces: VecDeque<Piece>,
    /// Pieces have been written since it was read from its beginning.
    begun: bool,
    /// Something may stand under that name.
    leftover: bool,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The type.
    Type,
    /// A page.
    Page,
    /// The answer to a piece.
    Piece,
    /// The time to live.
    Left,
}

// === impl Typed ===

impl Typed {
    fn new(size: Option<u64>, scratch: Vec<u8>) -> Typed {
        Typed {
            size,
            step: Step::Type,
            scratch,
            copier: None,
            pieces: VecDeque::new(),
            begun: false,
            leftover: false,
        }
    }

    /// Is it copied by pieces?
    pub fn is_paged(&self) -> bool {
        self.size.is_some()
    }

    /// Nothing stands under the other name any more.
    pub fn has_its_name(&mut self) {
        self.leftover = false;
    }

    /// What EXEC answered to the last step.
    pub fn verdict(&self, frame: &[u8], replace: bool) -> Verdict {
        let Ok(Value::Array(replies)) = Value::parse(frame) else { return Verdict::Refused };
        if replies.iter().any(Value::is_error) {
            return Verdict::Refused;
        }
        // RENAMENX, UNLINK
        let renamed = replies.len().checked_sub(2).and_then(|at| replies.get(at));
        if !replace && renamed == Some(&Value::Int(0)) { Verdict::KeptItsOwn } else { Verdict::Written }
    }

    /// One transaction that adds a piece.
    fn piece(&self, piece: &Piece) -> (Vec<u8>, u32) {
        let mut frame = Vec::with_capacity(piece.bytes.len() + 128);
        encode::command(&mut frame, &[b"MULTI"]);
        encode::command(&mut frame, &[b"EXISTS", &*self.scratch]);
        frame.extend_from_slice(&piece.bytes);
        encode::command(&mut frame, &[b"PEXPIRE", &*self.scratch, SCRATCH_LIFE_MS]);
        encode::command(&mut frame, &[b"EXEC"]);
        (frame, piece.replies + 4)
    }

    /// One transaction that adds what is left, and gives the value its name and time to live.
    fn last(&self, key: &[u8], replace: bool, left: Option<u64>) -> (Vec<u8>, u32) {
        let scratch = self.scratch.as_slice();
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MULTI"]);
        let mut replies = 1;
        for piece in &self.pieces {
            frame.extend_from_slice(&piece.bytes);
            replies += piece.replies;
        }
        let mut number = itoa::Buffer::new();
        match left {
            Some(left) => encode::command(&mut frame, &[b"PEXPIRE", scratch, number.format(left).as_bytes()]),
            None => encode::command(&mut frame, &[b"PERSIST", scratch]),
        }
        if replace {
            // Not left to RENAME, which would free a large value while everybody waits.
            encode::command(&mut frame, &[b"UNLINK", key]);
            encode::command(&mut frame, &[b"RENAME", scratch, key]);
        } else {
            encode::command(&mut frame, &[b"RENAMENX", scratch, key]);
            encode::command(&mut frame, &[b"UNLINK", scratch]);
        }
        encode::command(&mut frame, &[b"EXEC"]);
        (frame, replies + 4)
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// Reads the key with the commands of its type: whole, or page by page where it has so many bytes.
    pub(super) fn read_by_type(&mut self, key: CopyKey, size: Option<u64>) {
        let scratch = self.copies.scratch(key);
        if let Some(copy) = self.copies.get_mut(key) {
            copy.means = Means::Typed(Box::new(Typed::new(size, scratch)));
        }
        self.read_copy(key);
    }

    pub(super) fn ask_type(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        typed.step = Step::Type;
        typed.copier = None;
        typed.pieces.clear();
        typed.begun = false;
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"TYPE", &*copy.key]);
        self.copy_request(Owner::CopyRead(key), &frame, 1);
    }

    pub(super) fn typed_read(&mut self, key: CopyKey, frame: &[u8]) {
        if self.is_fence_overdue(key) {
            if self.copies.get(key).is_some_and(|copy| !copy.means.is_paged()) {
                // It is not large: the stores are slow just now.
                self.copy_failed(key);
                return;
            }
            let why = "since it is written to faster than it could be copied";
            self.give_copy_up(key, CopyOutcome::TooLarge, why);
            return;
        }
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        match typed.step {
            Step::Type => self.type_told(key, frame),
            Step::Page => self.page_read(key, frame),
            Step::Left => self.left_told(key, frame),
            Step::Piece => {}
        }
    }

    fn type_told(&mut self, key: CopyKey, frame: &[u8]) {
        let Ok(Value::Simple(name)) = Value::parse(frame) else { return self.copy_refused(key, frame) };
        if name == b"none" {
            return self.write_absence(key);
        }
        let Some(copy) = self.copies.get_mut(key) else { return };
        let dialect = self.dialects[copy.from.index()];
        let Means::Typed(typed) = &mut copy.means else { return };
        let kind = Type::parse(name);
        if let Some(size) = typed.size
            && kind.is_none_or(|kind| kind == Type::Stream)
        {
            return self.read_without_pieces(key, size, name);
        }
        let Some(kind) = kind else {
            let why = format!("which takes no payload of the type {}", String::from_utf8_lossy(name));
            return self.give_copy_up(key, CopyOutcome::Unsupported, &why);
        };
        let page = if typed.is_paged() { Page::Elements(FIRST_PAGE) } else { Page::Whole };
        typed.copier = Some(Copier::new(kind, &copy.key, &typed.scratch, page, dialect));
        self.copy_on(key);
    }

    /// A type that has no pieces is copied in one go, within reason.
    fn read_without_pieces(&mut self, key: CopyKey, size: u64, name: &[u8]) {
        if size <= self.settings.copy_max_bytes {
            return self.read_whole(key);
        }
        let name = String::from_utf8_lossy(name);
        let why = format!(
            "since it is above copy_max_bytes ({size} bytes) and of the type {name}, which has no pieces"
        );
        self.give_copy_up(key, CopyOutcome::TooLarge, &why);
    }

    fn page_read(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        let Some(copier) = &mut typed.copier else { return };
        match copier.take(frame) {
            Ok(()) => {
                typed.pieces.extend(copier.pieces());
                self.copy_on(key);
            }
            // Somebody who does not pass here has made something else of it.
            Err(CopyError::Unreadable) if frame.starts_with(b"-WRONGTYPE") => self.read_again(key),
            Err(CopyError::Unreadable) => self.copy_refused(key, frame),
            Err(error @ CopyError::FieldsExpire) => {
                self.give_copy_up(key, CopyOutcome::Unsupported, &format!("since {error}"));
            }
        }
    }

    /// Writes the next piece, or reads the next page, or asks for the time to live at the end.
    fn copy_on(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        if typed.is_paged()
            && let Some(piece) = typed.pieces.pop_front()
        {
            typed.step = Step::Piece;
            typed.leftover = true;
            let (frame, replies) = typed.piece(&piece);
            self.copy_request(Owner::CopyWrite(key), &frame, replies);
            return;
        }
        let read = match typed.copier.as_ref().and_then(Copier::next_read) {
            Some(read) => {
                typed.step = Step::Page;
                read
            }
            None => {
                typed.step = Step::Left;
                copy.read_at = self.now;
                let mut read = Vec::new();
                encode::command(&mut read, &[b"PTTL", &*copy.key]);
                read
            }
        };
        self.copy_request(Owner::CopyRead(key), &read, 1);
    }

    /// The store that gets the copy has answered a piece.
    pub(super) fn piece_written(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        let there = match Value::parse(frame) {
            Ok(Value::Array(replies)) if !replies.iter().any(Value::is_error) => {
                replies.first() == Some(&Value::Int(1))
            }
            _ => return self.copy_refused(key, frame),
        };
        if std::mem::replace(&mut typed.begun, true) && !there {
            return self
                .copy_refused(key, b"-ERR the key under construction was removed by somebody else\r\n");
        }
        if self.is_copy_current(key) {
            self.copy_on(key);
        } else {
            self.read_again(key);
        }
    }

    fn left_told(&mut self, key: CopyKey, frame: &[u8]) {
        let pttl = match Value::parse(frame) {
            Ok(Value::Int(-2)) => return self.write_absence(key),
            Ok(Value::Int(pttl)) => pttl,
            _ => return self.copy_refused(key, frame),
        };
        let left = self.time_left(key, pttl);
        let Some(copy) = self.copies.get_mut(key) else { return };
        let Means::Typed(typed) = &mut copy.means else { return };
        let (frame, replies) = typed.last(&copy.key, copy.replace, left);
        self.append_copy(key, &frame, replies);
    }

    /// Removes what a copy by pieces has left on `store`, if it did not get to its end.
    pub(super) fn drop_scratch(&mut self, store: StoreId, db: u32, means: &Means) {
        let Means::Typed(typed) = means else { return };
        let Some(command) = self.table.by_name("unlink").filter(|_| typed.leftover) else { return };
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"UNLINK", &*typed.scratch]);
        let context = Context { db, proto: Proto::Resp2 };
        let op = self.own_op(Owner::Nobody, command, Policy::Single(store), context);
        self.send_counted(op, &frame, &[store], 1);
    }
}
