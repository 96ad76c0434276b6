//! One order: many clients push onto one list, and both stores are to hold the same afterwards.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use multistore::resp::encode;
use multistore::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use multistore::resp::value::OwnedValue;

use super::load::{self, PATIENCE, Plan};
use super::peers::{Peer, Stores};
use super::report::Table;
use super::targets::Judged;
use super::work::Work;

const CLIENTS: usize = 50;
const PUSHES: u64 = 100_000;
/// How long the mirror may take to have everything that it will get.
const SETTLE: Duration = Duration::from_secs(10);

/// Counts the positions at which the two stores differ, for everybody who mirrors.
pub fn race(stores: &Stores) -> io::Result<Table> {
    let row = |cells: [String; 4]| cells.to_vec();
    let mut rows =
        vec![row(["", "elements", "on the other store", "positions that differ"].map(str::to_owned))];
    let mut judged = Vec::new();
    for peer in [Peer::EnvoyMirror, Peer::EnvoyMirrorTwo, Peer::DualSecondary, Peer::DualPrimary] {
        let Some(target) = stores.target(peer)? else { continue };
        let prefix = format!("race{peer:?}");
        let plan = Plan {
            clients: CLIENTS,
            pipeline: 1,
            work: Work::Push,
            value: 16,
            time: Duration::from_secs(600),
            requests: Some(PUSHES),
            prefix: prefix.clone(),
        };
        load::run(target.addr, &plan)?;
        let [here, there] = settled(stores, &Work::list(&prefix))?;
        let differ =
            here.iter().zip(&there).filter(|(a, b)| a != b).count() + here.len().abs_diff(there.len());
        rows.push(row([
            peer.name().to_owned(),
            here.len().to_string(),
            there.len().to_string(),
            differ.to_string(),
        ]));
        if peer == Peer::DualSecondary {
            let load = format!("{CLIENTS} clients, P=1");
            judged.push(Judged::at_most("positions that differ in the race", &load, 0.0, differ as f64));
        }
    }
    let heading = format!("One order: {CLIENTS} clients race {PUSHES} RPUSHes onto one list");
    Ok(Table { heading, rows, judged })
}

/// The list on both stores, once neither grows any more.
fn settled(stores: &Stores, list: &str) -> io::Result<[Vec<OwnedValue>; 2]> {
    let begin = Instant::now();
    loop {
        let [primary, secondary] = stores.addresses();
        let both = [elements(secondary, list)?, elements(primary, list)?];
        if both[0].len() == both[1].len() || begin.elapsed() > SETTLE {
            return Ok(both);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn elements(store: SocketAddr, list: &str) -> io::Result<Vec<OwnedValue>> {
    let mut stream = TcpStream::connect(store)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    encode::command(&mut request, &["LRANGE", list, "0", "-1"]);
    stream.write_all(&request)?;
    let (mut reply, mut scanner, mut scratch) = (Vec::new(), ReplyScanner::new(), vec![0; 1 << 20]);
    loop {
        let n = stream.read(&mut scratch)?;
        reply.extend_from_slice(&scratch[..n]);
        match scanner.scan(&reply, &ReplyLimits::default()).map_err(io::Error::other)? {
            Scanned::Complete { .. } => break,
            Scanned::Incomplete if n == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Scanned::Incomplete => {}
        }
    }
    match OwnedValue::parse(&reply).map_err(io::Error::other)? {
        OwnedValue::Array(elements) => Ok(elements),
        other => Err(io::Error::other(format!("{other:?} is no list"))),
    }
}
