# Read by the suite behind its own support files (scripts/setup-redis-suite, run.rs).
#
# INFO through the proxy is the default store's, whose clients are the proxy's connections. Where a test asks how many
# clients there are, it means those of the proxy: INFO multistore knows them. A lone server has no such section.
rename status status_of_server
proc status {srv property} {
    if {$property in {blocked_clients connected_clients pubsub_clients tracking_clients}} {
        set own [getInfoProperty [{*}$srv info multistore] multistore_$property]
        if {$own ne ""} { return $own }
    }
    status_of_server $srv $property
}

# CONFIG SET through the proxy reaches the default store. The limits of encodings that a test sets are set on both, as
# operators are told to do (docs/compatibility.md), or OBJECT ENCODING would tell of a store with other limits.
if {[info exists ::env(REDIS_SUITE_STORES)]} {
    rename ::redis::__dispatch__ ::redis::__dispatch_to_proxy__
    proc ::redis::__dispatch__ {id method args} {
        if {[string equal -nocase $method config] && [string equal -nocase [lindex $args 0] set]
            && [regexp -nocase -- {-max-(listpack|ziplist|intset)-|^hll-sparse-} [lindex $args 1]]} {
            foreach port $::env(REDIS_SUITE_STORES) {
                set fd [socket 127.0.0.1 $port]
                fconfigure $fd -translation binary
                set command "*[expr {[llength $args] + 1}]\r\n"
                foreach word [concat config $args] {
                    append command "\$[string length $word]\r\n$word\r\n"
                }
                puts -nonewline $fd $command
                flush $fd
                # What it says is of no interest: the proxy's answer is the test's.
                gets $fd
                close $fd
            }
        }
        uplevel 1 [list ::redis::__dispatch_to_proxy__ $id $method {*}$args]
    }
}
