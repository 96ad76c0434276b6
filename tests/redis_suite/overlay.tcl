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
