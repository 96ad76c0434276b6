//! Facts about commands of newer servers that the generated rows lack: Redis 7.4 to 8.4, Valkey 8.1 to 9.1.
//!
//! Written down by hand; a test keeps the two lists apart. Module commands (vector sets, JSON, search) are
//! learnt from the stores themselves.

use super::spec::row::*;
use super::{Begin, Find, KeySpec};

const AT_1: Begin = index(1);
const ONE: Find = range(0, 1, 0);

const READ: &[KeySpec] = &[key(K_RO | K_ACCESS, AT_1, ONE)];
const UPDATE: &[KeySpec] = &[key(K_RW | K_UPDATE, AT_1, ONE)];
const INSERT: &[KeySpec] = &[key(K_RW | K_INSERT, AT_1, ONE)];
const TAKE: &[KeySpec] = &[key(K_RW | K_ACCESS | K_DELETE, AT_1, ONE)];
const GET_UPDATE: &[KeySpec] = &[key(K_RW | K_ACCESS | K_UPDATE, AT_1, ONE)];
const REMOVE_IF: &[KeySpec] = &[key(K_RM | K_ACCESS | K_DELETE, AT_1, ONE)];
const SEVERAL: &[KeySpec] = &[key(K_OW | K_UPDATE, AT_1, keynum(0, 1, 2))];

/// One row for each command and subcommand.
pub(super) const ROWS: [Row; 29] = [
    row("client|import-source", 3, NOSCRIPT | LOADING | STALE, &[]),
    row("cluster|cancelslotmigrations", 2, NO_ASYNC_LOADING | ADMIN | STALE, &[]),
    row("cluster|flushslot", -3, NO_ASYNC_LOADING | ADMIN | WRITE, &[]),
    row("cluster|getslotmigrations", 2, ADMIN | STALE, &[]),
    row("cluster|migrateslots", -4, NO_ASYNC_LOADING | ADMIN | STALE, &[]),
    row("cluster|migration", -4, NO_ASYNC_LOADING | ADMIN | STALE, &[]),
    row("commandlog", -2, 0, &[]),
    row("commandlog|get", 4, ADMIN | LOADING | STALE, &[]),
    row("commandlog|help", 2, LOADING | STALE, &[]),
    row("commandlog|len", 3, ADMIN | LOADING | STALE, &[]),
    row("commandlog|reset", 3, ADMIN | LOADING | STALE, &[]),
    row("delex", -2, WRITE | FAST, REMOVE_IF),
    row("delifeq", 3, WRITE | FAST, REMOVE_IF),
    row("digest", 2, READONLY | FAST, READ),
    row("hexpire", -6, WRITE | DENYOOM | FAST, UPDATE),
    row("hexpireat", -6, WRITE | DENYOOM | FAST, UPDATE),
    row("hexpiretime", -5, READONLY | FAST, READ),
    row("hgetdel", -5, WRITE | FAST, TAKE),
    row("hgetex", -5, WRITE | FAST, GET_UPDATE),
    row("hpersist", -5, WRITE | FAST, UPDATE),
    row("hpexpire", -6, WRITE | DENYOOM | FAST, UPDATE),
    row("hpexpireat", -6, WRITE | DENYOOM | FAST, UPDATE),
    row("hpexpiretime", -5, READONLY | FAST, READ),
    row("hpttl", -5, READONLY | FAST, READ),
    row("hsetex", -6, WRITE | DENYOOM | FAST, INSERT),
    row("httl", -5, READONLY | FAST, READ),
    row("msetex", -4, WRITE | DENYOOM, SEVERAL),
    row("xackdel", -6, WRITE | FAST, UPDATE),
    row("xdelex", -5, WRITE | FAST, TAKE),
];
