# shellcheck shell=bash disable=SC2154
# The node: a host of the lab, by name.
#
# Its directory: keeper, holder (process ids on this machine), root, full, address, switch, binds, flags (its
# configuration), disk/ (mounted only for the node), lab/ (/lab in the node: docker.sock, dockerd.log, pontoon.log),
# boot.log.

node_dir() {
    case $1 in
        '' | *[!a-zA-Z0-9_-]*) die "not a node name: '$1'" ;;
    esac
    echo "$lab_nodes/$1"
}

node_up() {
    local node=${1:?lab up NODE} suite='' address='' switch=switch engine=1 tether='' dir root
    shift
    dir=$(node_dir "$node")
    mkdir -p "$lab_nodes"
    [ ! -e "$dir" ] || alive "$dir" || node_down "$node"
    mkdir "$dir" 2>/dev/null || die "$node exists already: lab down $node"
    mkdir "$dir/disk" "$dir/lab"
    : >"$dir/binds"
    while [ $# -gt 0 ]; do
        case $1 in
            --suite) suite=$2; shift 2 ;;
            --address) address=$2; shift 2 ;;
            --switch) switch=$2; shift 2 ;;
            --bind) echo "$2" >>"$dir/binds"; shift 2 ;;
            --full) : >"$dir/full"; shift ;;
            --forwarding) : >"$dir/forwarding"; shift ;;
            --no-dockerd) engine=0; shift ;;
            --tether) tether=tether; shift ;;
            --) shift; break ;;
            *) rm -rf "$dir"; die "up: no such option: $1" ;;
        esac
    done
    # now: the local variable does not exist at exit
    trap "node_undo $node" EXIT
    root=$(root_path "${suite:-$(host_suite)}")
    [ ! -e "$dir/full" ] || [ -e "$root.full.recipe" ] || die "no servers and firewalls for $root: run make lab"
    echo "$root" >"$dir/root"
    [ -z "${PONTOON_DOCKERD:-}" ] || echo "$PONTOON_DOCKERD:/usr/sbin/dockerd" >>"$dir/binds"
    [ -z "$address" ] || printf '%s %s\n' "$address" "$switch" >"$dir/address"
    [ $# -eq 0 ] || printf '%s\n' "$@" >"$dir/flags"
    keeper_start "$node" keep "$tether"
    node_booted "$node"
    if [ "$engine" = 1 ]; then
        engine_start "$node"
        image_load "$node" busybox
    fi
    trap - EXIT
}

# Removes a node that failed to start; its logs go to standard error.
node_undo() {
    local dir=$lab_nodes/$1
    tail -n 20 "$dir/boot.log" "$dir/lab/dockerd.log" >&2 2>/dev/null || true
    node_down "$1"
}

# Waits for the end of a boot and connects the cable.
node_booted() {
    local node=$1 dir=$lab_nodes/$1
    until_true "${PONTOON_LAB_PATIENCE:-20}" node_settled "$dir" || die "$node does not boot"
    grep -q up "$dir/holder.new" || { cat "$dir/boot.log" >&2; die "$node does not boot"; }
    head -n 1 "$dir/holder.new" >"$dir/holder"
    [ ! -e "$dir/address" ] || node_plug "$node"
}

node_settled() { [ -e "$1/off" ] || grep -qs up "$1/holder.new"; }

node_plug() {
    local node=$1 dir=$lab_nodes/$1 address switch
    read -r address switch <"$dir/address"
    switch_up "$switch"
    switch_port "$switch" "$address" "$(cat "$dir/holder")"
    nsenter -t "$(cat "$dir/holder")" -n ip -batch - <<-END
	address add 192.168.77.$address/24 dev eth0
	address add fd77::$address/64 dev eth0 nodad
	link set eth0 up
	route add default via 192.168.77.254
	route add default via fd77::ffff
	END
}

node_reboot() {
    local node=${1:?lab reboot NODE} dir
    dir=$(node_dir "$node")
    alive "$dir" || die "$node is not up"
    cgroup_of "$(cat "$dir/keeper")" >"$dir/cgroups"
    kill -KILL "$(cat "$dir/holder")" 2>/dev/null || true
    until_true "${PONTOON_LAB_PATIENCE:-20}" test -e "$dir/off" || die "$node does not end"
    cgroup_remove <"$dir/cgroups"
    rm -f "$dir/off" "$dir/holder" "$dir/holder.new" "$dir/lab/docker.sock"
    kill -USR1 "$(cat "$dir/keeper")"
    node_booted "$node"
    [ "${2:-}" = --no-dockerd ] || [ ! -e "$dir/engine" ] || engine_start "$node"
}

node_down() {
    local dir keeper
    dir=$(node_dir "$1")
    [ -e "$dir" ] || return 0
    if alive "$dir"; then
        keeper=$(cat "$dir/keeper")
        cgroup_of "$keeper" >"$dir/cgroups" || true
        kill -KILL "$keeper" 2>/dev/null || true
        until_true "${PONTOON_LAB_PATIENCE:-20}" gone "$keeper" || die "$1 does not end"
        cgroup_remove <"$dir/cgroups"
    fi
    until_true 5 node_erase "$dir" || die "cannot remove $dir"
}

node_erase() { rm -rf --one-file-system "$1" 2>/dev/null; }

gone() { [ ! -d "/proc/$1" ]; }

# alive DIR: its keeper runs, and is a keeper.
alive() {
    local keeper
    keeper=$(cat "$1/keeper" 2>/dev/null) || return 1
    grep -qsz -- "^${1##*/}\$" "/proc/$keeper/cmdline"
}

# node_enter NODE COMMAND...: in a clean environment. With last=1 it replaces this shell.
node_enter() {
    local node=${1:?lab exec NODE COMMAND...} dir holder
    shift
    dir=$(node_dir "$node")
    if [ -e "$dir/ports" ]; then
        ${last:+exec} nsenter -t "$(cat "$dir/keeper")" -n -- "$@"
        return
    fi
    holder=$(cat "$dir/holder" 2>/dev/null) || die "$node is not up"
    ${last:+exec} nsenter -t "$holder" --mount --net --pid --uts --ipc --root --wd -- \
        /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}

node_log() {
    local dir
    dir=$(node_dir "${1:?lab logs NODE}")
    case ${2:-dockerd} in
        boot) cat "$dir/boot.log" ;;
        *) cat "$dir/lab/${2:-dockerd}.log" ;;
    esac
}

node_list() {
    local dir
    for dir in "$lab_nodes"/*/; do
        dir=${dir%/}
        [ -e "$dir/keeper" ] || continue
        if ! alive "$dir"; then
            echo "${dir##*/} dead"
        elif [ -e "$dir/ports" ]; then
            echo "${dir##*/} switch"
        else
            echo "${dir##*/} $(basename "$(cat "$dir/root")") $(cat "$dir/address" 2>/dev/null || echo -)"
        fi
    done
}

node_gc() {
    local dir
    for dir in "$lab_nodes"/*/; do
        dir=${dir%/}
        [ -d "$dir" ] || continue
        # A node without keeper is starting.
        [ -e "$dir/keeper" ] || [ -n "$(find "$dir" -maxdepth 0 -mmin +1)" ] || continue
        alive "$dir" || { say "removing ${dir##*/}"; node_down "${dir##*/}"; }
    done
}
