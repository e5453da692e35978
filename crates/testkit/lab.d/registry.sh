# shellcheck shell=bash disable=SC2154
# The registry: a place in a node to push plugins to. On the loopback, hence without TLS; with its own configuration,
# because the package's requires a password.

registry_address=127.0.0.1:5000

registry_start() {
    local node=${1:?lab registry NODE} dir
    dir=$(node_dir "$node")
    cat >"$dir/lab/registry.yml" <<-END
	version: 0.1
	log: { level: warn, accesslog: { disabled: true } }
	storage: { filesystem: { rootdirectory: /var/lib/registry } }
	http: { addr: $registry_address }
	END
    node_enter "$node" bash -c '
        command -v docker-registry >/dev/null || { echo "this suite has no docker-registry" >&2; exit 1; }
        mkdir -p /var/lib/registry
        setsid docker-registry serve /lab/registry.yml </dev/null >>/lab/registry.log 2>&1 &'
    until_true "${PONTOON_LAB_PATIENCE:-15}" node_enter "$node" curl -sf -o /dev/null "http://$registry_address/v2/" ||
        { cat "$dir/lab/registry.log" >&2; die "$node: the registry does not answer"; }
}
