# shellcheck shell=bash disable=SC2154
# The control groups that a node's containers leave behind when the node is killed.

# cgroup_of PID: the groups of PID's descendants, other than PID's own, one path a line.
cgroup_of() {
    ps -e -o pid=,ppid=,cgroup= | awk -v top="$1" '
        { parent[$1] = $2; groups[$1] = $3 }
        END {
            for (pid in parent) {
                for (p = pid; p in parent && p != top; ) p = parent[p]
                if (p != top || groups[pid] == groups[top]) continue
                n = split(groups[pid], list, ",")
                for (i = 1; i <= n; i++) { sub(/^[^\/]*/, "", list[i]); if (list[i] ~ /[0-9a-f]{64}/ || length(list[i]) > 64) seen[list[i]] = 1 }
            }
            for (path in seen) print path
        }'
}

# cgroup_remove <PATHS: from every hierarchy; the kernel refuses while anything runs in one.
cgroup_remove() {
    local path hierarchy
    while read -r path; do
        for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
            hierarchy=${hierarchy%/}$path
            [ ! -d "$hierarchy" ] || until_true 2 rmdir "$hierarchy" 2>/dev/null || true
        done
    done
}
