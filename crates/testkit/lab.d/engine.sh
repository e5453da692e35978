# shellcheck shell=bash disable=SC2154
# The engine: a node's dockerd. The root's own, or that of PONTOON_DOCKERD, for engines that no Debian release has; with
# PONTOON_DOCKERD_FLAGS as further flags.

# engine_start NODE [FLAG...]
engine_start() {
    local node=${1:?lab start NODE} dir flags=()
    shift
    dir=$(node_dir "$node")
    [ $# -eq 0 ] || printf '%s\n' "$@" >"$dir/flags"
    [ ! -e "$dir/flags" ] || mapfile -t flags <"$dir/flags"
    # shellcheck disable=SC2206  # words
    flags+=(${PONTOON_DOCKERD_FLAGS:-})
    # This backend requires it.
    case " ${flags[*]} " in *' --firewall-backend=nftables '*) node_enter "$node" sysctl -qw "${forwarding[@]}" ;; esac
    : >"$dir/engine"
    local holder attempt
    holder=$(cat "$dir/holder")
    for attempt in 1 2 3; do
        # shellcheck disable=SC2016  # the node's shell expands it
        node_enter "$node" bash -c '
            : >/lab/dockerd.start
            DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1 setsid dockerd \
                -H unix:///run/docker.sock -H unix:///lab/docker.sock "$@" </dev/null >>/lab/dockerd.log 2>&1 &
            echo $! >/run/dockerd.pid' dockerd "${flags[@]}"
        until_true "${PONTOON_LAB_PATIENCE:-60}" engine_settled "$holder" || true
        ! engine_answers "$holder" || return 0
        # An engine that panics is started again, as its unit does (Restart=always): 20.10 does so rarely, when it was
        # killed while it stored an endpoint (initNetworkController). So is one that gave up on containerd, after 15 s,
        # which the first start in an emulated machine exceeds.
        { [ "$attempt" -lt 3 ] && ! engine_runs "$holder" && engine_gave_up "$dir"; } || break
        say "$node: dockerd ended at its start, starting it again: $(engine_gave_up "$dir" | head -n 1)"
    done
    { engine_panicked "$dir" || tail -n 20 "$dir/lab/dockerd.log"; } >&2
    die "$node: dockerd does not answer"
}

# engine_panicked DIR: prints the beginning of the last panic in the log since the last start; false if there is none
engine_panicked() {
    [ "$1/lab/dockerd.log" -nt "$1/lab/dockerd.start" ] &&
        tail -n 2000 "$1/lab/dockerd.log" | tac | sed -n '/^\(panic\|fatal error\): /{p;q};p' | tac | head -n 30 |
        grep -m1 -A29 -E '^(panic|fatal error): '
}

# engine_gave_up DIR: prints why it ended, if another start may succeed; false otherwise
engine_gave_up() {
    engine_panicked "$1" || tail -n 1 "$1/lab/dockerd.log" | grep '^failed to start containerd: timeout'
}

# Through /proc rather than by path: a socket's path is limited to 107 characters.
engine_answers() {
    curl -sf --max-time 5 --unix-socket "/proc/$1/root/run/docker.sock" http://docker/_ping >/dev/null 2>&1
}

engine_settled() { engine_answers "$1" || ! engine_runs "$1"; }

engine_runs() {
    local pid
    pid=$(cat "/proc/$1/root/run/dockerd.pid" 2>/dev/null) && [ -d "/proc/$1/root/proc/$pid" ]
}

# engine_stop NODE [SIGNAL]
engine_stop() {
    local node=${1:?lab stop NODE} signal=${2:-TERM} dir holder
    dir=$(node_dir "$node")
    holder=$(cat "$dir/holder")
    engine_runs "$holder" || die "$node: dockerd is not running"
    # shellcheck disable=SC2016
    node_enter "$node" bash -c 'kill -s "$0" "$(cat /run/dockerd.pid)"' "$signal"
    until_true "${PONTOON_LAB_PATIENCE:-60}" engine_ended "$holder" || die "$node: dockerd does not end on $signal"
    rm -f "$dir/engine"
}

engine_ended() { ! engine_runs "$1"; }
