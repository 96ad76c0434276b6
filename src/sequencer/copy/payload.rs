//! A copy in one go: MULTI, PTTL, DUMP, EXEC on the right store, RESTORE on the other.

use crate::resp::encode;
use crate::resp::value::Value;

use super::super::Sequencer;
use super::super::op::Owner;
use super::CopyKey;

/// Does a store take the payloads of the other one?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payloads {
    /// Nobody has tried.
    Untried,
    /// It has refused one for a reason that holds for all.
    Refused,
}

/// Why a RESTORE was refused, as far as another way may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No payload passes between these two servers.
    Every,
    /// This one does not.
    This,
    /// Another way would be refused, too.
    Other,
}

impl Refusal {
    /// Reads the store's error.
    pub fn of(frame: &[u8]) -> Refusal {
        let is = |text: &[u8]| memchr::memmem::find(frame, text).is_some();
        if is(b"DUMP payload version or checksum") || is(b"unknown command") || frame.starts_with(b"-NOPERM")
        {
            Refusal::Every
        } else if is(b"Bad data format") {
            Refusal::This
        } else {
            Refusal::Other
        }
    }
}

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn read_payload(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MULTI"]);
        encode::command(&mut frame, &[b"PTTL", &*copy.key]);
        encode::command(&mut frame, &[b"DUMP", &*copy.key]);
        encode::command(&mut frame, &[b"EXEC"]);
        self.copy_request(Owner::CopyRead(key), &frame, 4);
    }

    pub(super) fn payload_read(&mut self, key: CopyKey, frame: &[u8]) {
        match Value::parse(frame) {
            Ok(Value::Array(items)) => match items.as_slice() {
                [Value::Int(pttl), value @ (Value::Bulk(_) | Value::Nil)] => {
                    self.payload_told(key, *pttl, value, frame);
                }
                _ => self.copy_refused(key, frame),
            },
            // A server that has no room left queues nothing; one that has no DUMP refuses it.
            Ok(Value::Error(_)) => self.read_by_type(key, None),
            _ => self.copy_refused(key, frame),
        }
    }

    /// Time to live and payload are there.
    pub(super) fn payload_told(&mut self, key: CopyKey, pttl: i64, value: &Value<'_>, frame: &[u8]) {
        match value {
            Value::Bulk(payload) => self.write_payload(key, pttl, payload),
            Value::Nil => self.write_absence(key),
            Value::Error(_) => self.read_by_type(key, None),
            _ => self.copy_refused(key, frame),
        }
    }

    fn write_payload(&mut self, key: CopyKey, pttl: i64, payload: &[u8]) {
        let left = self.time_left(key, pttl).unwrap_or(0);
        let Some(copy) = self.copies.get(key) else { return };
        self.copy_counts.bytes += payload.len() as u64;
        let mut number = itoa::Buffer::new();
        let left = number.format(left);
        let mut args: Vec<&[u8]> = vec![b"RESTORE", &copy.key, left.as_bytes(), payload];
        if copy.replace {
            args.push(b"REPLACE");
        }
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        self.append_copy(key, &frame, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_good_and_what_is_not() {
        for (error, refusal) in [
            ("-ERR DUMP payload version or checksum are wrong\r\n", Refusal::Every),
            ("-ERR unknown command 'RESTORE', with args beginning with: \r\n", Refusal::Every),
            ("-NOPERM this user has no permissions to run the 'restore' command\r\n", Refusal::Every),
            ("-ERR Bad data format\r\n", Refusal::This),
            ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(error.as_bytes()), refusal, "{error}");
        }
    }
}
