# shellcheck shell=bash disable=SC2154
# The control groups of containers that are left over when a node is killed.

# cgroup_of PID: the groups of containers among PID's descendants, one path a line. Without ps, which fails in a process
# namespace with a foreign /proc, such as the keeper's.
cgroup_of() {
    { grep -s '' /proc/[0-9]*/stat /proc/[0-9]*/cgroup || true; } | awk -v top="$1" '
        {
            match($0, /^\/proc\/[0-9]+\//)
            pid = substr($0, 7, RLENGTH - 7)
            rest = substr($0, RLENGTH + 1)
        }
        rest ~ /^stat:/ { sub(/.*\) . /, "", rest); sub(/ .*/, "", rest); parent[pid] = rest }
        rest ~ /^cgroup:/ {
            sub(/^[^\/]*/, "", rest)
            leaf = rest
            sub(/.*\//, "", leaf)
            # The name contains a container or plugin id, which has 64 digits.
            if (length(leaf) >= 64) groups[rest] = pid
        }
        END {
            for (path in groups) {
                for (pid = groups[path]; pid in parent && pid != top; ) pid = parent[pid]
                if (pid == top) print path
            }
        }'
}

# cgroup_remove <PATHS: from every hierarchy; the kernel refuses while a process runs in one.
cgroup_remove() {
    local path hierarchy
    while read -r path; do
        for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
            hierarchy=${hierarchy%/}$path
            [ ! -d "$hierarchy" ] || until_true 2 rmdir "$hierarchy" 2>/dev/null || true
        done
    done
}
