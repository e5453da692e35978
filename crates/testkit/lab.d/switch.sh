# shellcheck shell=bash disable=SC2154
# The switch: a bridge in its own network namespace, to which the nodes' uplinks are connected.

# switch_up NAME [--tether]
switch_up() {
    local switch=$1 tether=${2:-} dir
    dir=$(node_dir "$switch")
    mkdir -p "$lab_nodes"
    exec 7>"$lab_base/switch.lock"
    flock 7
    if ! alive "$dir"; then
        rm -rf "$dir"
        mkdir -p "$dir/ports" "$dir/disk"
        keeper_start "$switch" switch "${tether#--}" 7>&-
    fi
    exec 7>&-
}

switch_down() { node_down "$1"; }

switch_main() {
    local node=$1 tether=${2:-}
    ip -batch - <<-END
	link set lo up
	link add br0 type bridge mcast_snooping 0
	address add 192.168.77.254/24 dev br0
	address add fd77::ffff/64 dev br0 nodad
	link set br0 up
	END
    # Frames are switched, never filtered.
    sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 2>/dev/null || true
    keeper_wait "$node" "$(node_dir "$node")" "$tether"
}

# switch_port SWITCH N PID: a cable from port N to the network namespace of PID, where it is eth0. Its MAC address is
# the same at each boot, as on real hardware.
switch_port() {
    local keeper mac
    keeper=$(cat "$(node_dir "$1")/keeper")
    # The old cable of a rebooted node may still exist.
    nsenter -t "$keeper" -n ip link delete "port$2" 2>/dev/null || true
    mac=$(printf "02:00:c0:a8:4d:%02x" "$2")
    ip link add name eth0 address "$mac" netns "$3" type veth peer name "port$2" netns "$keeper"
    nsenter -t "$keeper" -n ip link set "port$2" master br0 up
}
