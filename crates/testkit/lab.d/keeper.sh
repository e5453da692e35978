# shellcheck shell=bash disable=SC2154
# The keeper: the process on which a node depends.
#
# It is PID 1 of a process namespace and holds, in a mount namespace, the node's disk. Each boot is a child of it in
# separate namespaces (boot.sh); a reboot replaces that child and keeps the disk. Killing the keeper ends everything.

# keeper_start NODE KIND [tether]: KIND is keep or switch. Returns when the keeper has written its pid.
keeper_start() {
    local node=$1 kind=$2 tether=${3:-} dir spaces=(--mount --pid --fork --kill-child --propagation private)
    dir=$(node_dir "$node")
    [ "$kind" = keep ] || spaces+=(--net)
    exec 3<&0
    setsid unshare "${spaces[@]}" -- bash "$lab_script" "__$kind" "$node" "$tether" \
        </dev/null >"$dir/boot.log" 2>&1 &
    exec 3<&-
    until_true "${PONTOON_LAB_PATIENCE:-10}" test -s "$dir/keeper" || { cat "$dir/boot.log" >&2; die "$node: the keeper does not start"; }
}

keeper_main() {
    local node=$1 tether=$2 dir
    dir=$(node_dir "$node")
    mount -t tmpfs -o size=4g,mode=755 disk "$dir/disk"
    mkdir -p "$dir"/disk/{upper,work,root,docker,pontoon}
    trap 'keeper_boot "$node" "$dir"' USR1
    keeper_boot "$node" "$dir"
    keeper_wait "$node" "$dir" "$tether"
}

keeper_boot() {
    {
        unshare --mount --net --pid --uts --ipc --fork --propagation private -- bash "$lab_script" __boot "$1" || true
        touch "$2/off"
    } 3<&- &
}

# Writes its pid; then waits, for ever or for the end of the tether (descriptor 3), and ends the node.
keeper_wait() {
    local node=$1 dir=$2 tether=$3 watch
    if [ "$tether" = tether ]; then cat <&3 >/dev/null & else sleep infinity 3<&- & fi
    watch=$!
    exec 3<&-
    self_pid >"$dir/keeper.new"
    mv "$dir/keeper.new" "$dir/keeper"
    while kill -0 "$watch" 2>/dev/null; do wait "$watch" || true; done
    cgroup_of "$(cat "$dir/keeper")" >"$dir/cgroups" || true
    if [ -s "$dir/holder" ]; then kill -KILL -1 2>/dev/null || true; fi
    cgroup_remove <"$dir/cgroups"
    umount -l "$dir/disk" 2>/dev/null || true
    rm -rf --one-file-system "$dir"
}

# This shell's pid on the host: /proc is the host's until a process namespace mounts its own. Do not use in $(...),
# which is another process.
self_pid() {
    local pid
    read -r pid _ </proc/self/stat
    echo "$pid"
}

# until_true SECONDS COMMAND...: polls.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.01
    done
}
