//! A client that CLIENT PAUSE holds up.

use crate::command::{CommandFlags, Kind};
use crate::resp::Proto;
use crate::resp::value::Value;
use crate::route::{Route, TransactionCommand};
use crate::sequencer::lane::Context;

use super::asked::Asked;
use super::{Gone, Session};

// === impl Session ===

impl Session {
    /// Must this request wait for the end of a pause? What a store would refuse at once needs no wait.
    pub(super) fn is_paused(&mut self, asked: &Asked<'_>) -> bool {
        let passes = std::mem::take(&mut self.passes_pause);
        let Some(pause) = self.instance.paused().filter(|_| !passes) else { return false };
        if !asked.spec.arity_ok(asked.request.argc()) {
            return false;
        }
        match asked.route {
            _ if pause.all => true,
            Route::Transaction(TransactionCommand::Exec) => {
                self.multi.as_ref().is_some_and(|multi| multi.replicates)
            }
            _ => self.may_replicate(asked),
        }
    }

    /// May a command change anything: what CLIENT PAUSE … WRITE is about? By the flags that the store has for it, whatever
    /// its arguments: SORT without STORE waits, SCRIPT LOAD does not.
    pub(super) fn may_replicate(&mut self, asked: &Asked<'_>) -> bool {
        match asked.effect.kind {
            Kind::Script => !self.instance.core_mut().way(asked.id, true, &asked.request).read_only,
            _ => asked.spec.flags.has(CommandFlags::WRITE.with(CommandFlags::MAY_REPLICATE)),
        }
    }

    /// The function that a paused request calls. Only the store knows whether it may write.
    pub(super) fn function_called(&self, asked: &Asked<'_>) -> Option<Box<[u8]>> {
        let writes_only = self.instance.paused().is_some_and(|pause| !pause.all);
        (writes_only && &*asked.spec.name == "fcall").then(|| asked.request.arg(1).into())
    }

    /// Has the default store been told that this function never writes?
    async fn never_writes(&mut self, function: &[u8]) -> Result<bool, Gone> {
        let words: [&[u8]; 2] = [b"FUNCTION", b"LIST"];
        let Some(list) = self.instance.core().table.find(&words[..]) else { return Ok(false) };
        let context = Context { proto: Proto::Resp2, ..self.state.context() };
        let told = self.ask(context, list, &words).await?;
        Ok(told.is_ok_and(|libraries| is_without_writes(&libraries, function)))
    }

    /// Waits for the end of the pause, unless the request calls a `function` that never writes.
    pub(super) async fn wait_for_unpause(&mut self, function: Option<Box<[u8]>>) -> Result<(), Gone> {
        if let Some(function) = function
            && self.never_writes(&function).await?
        {
            self.passes_pause = true;
            return Ok(());
        }
        self.io.info.borrow_mut().blocked = true;
        while let Some(pause) = self.instance.paused() {
            let left = self.instance.left_of(pause);
            let unpaused = self.until(|session| session.instance.paused().is_none());
            if let Ok(Err(gone)) = tokio::time::timeout(left, unpaused).await {
                return Err(gone);
            }
        }
        self.io.info.borrow_mut().blocked = false;
        Ok(())
    }
}

/// Does FUNCTION LIST, in RESP2, tell of this function that it has the flag `no-writes`?
fn is_without_writes(libraries: &[u8], function: &[u8]) -> bool {
    let Ok(libraries) = Value::parse(libraries) else { return false };
    let functions =
        items(&libraries).iter().filter_map(|library| field(library, b"functions")).flat_map(items);
    let named = |one: &&Value<'_>| field(one, b"name").and_then(Value::as_bytes) == Some(function);
    let flags = functions.filter(named).find_map(|function| field(function, b"flags"));
    flags.is_some_and(|flags| items(flags).iter().any(|flag| flag.as_bytes() == Some(b"no-writes")))
}

fn items<'v, 'a>(value: &'v Value<'a>) -> &'v [Value<'a>] {
    value.as_array().unwrap_or_default()
}

/// A field of a map that RESP2 shows as an array.
fn field<'v, 'a>(map: &'v Value<'a>, name: &[u8]) -> Option<&'v Value<'a>> {
    items(map).chunks_exact(2).find_map(|pair| match pair {
        [key, value] if key.as_bytes() == Some(name) => Some(value),
        _ => None,
    })
}
