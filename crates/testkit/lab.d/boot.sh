# shellcheck shell=bash disable=SC2154
# The boot: a node's process 1, from new namespaces to a running bare host.

boot_main() {
    local node=$1 dir root
    dir=$(node_dir "$node")
    root=$dir/disk/root
    exec 8>"$dir/holder.new"
    self_pid >&8
    hostname "$node"
    ip link set lo up
    boot_sysctls "$dir"
    boot_mounts "$dir" "$root"
    boot_identity "$root" "$node"
    cd "$root" || exit
    pivot_root . old
    cd / || exit
    umount -l /old
    # As on a host with systemd: the rslave mounts of a managed plugin need it.
    mount --make-rshared /
    echo up >&8
    exec 8>&-
    set +e
    trap : TERM INT HUP
    while :; do
        sleep infinity &
        wait $!
    done
}

# A new network namespace copies net.ipv4 from the host, where forwarding may be enabled; a new host has it disabled,
# and dockerd behaves differently then.
boot_sysctls() {
    sysctl -qw net.ipv4.conf.all.forwarding=0 net.ipv4.conf.default.forwarding=0 net.ipv4.ip_forward=0
    [ ! -e "$1/forwarding" ] || sysctl -qw "${forwarding[@]}"
}

forwarding=(net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1)

boot_mounts() {
    local dir=$1 root=$2 disk=$1/disk lower from to tool
    lower=$(cat "$dir/root")
    [ ! -e "$dir/full" ] || lower=$lower.full:$lower
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" "$root"
    mkdir -p "$root"/{lab,old,var/lib/docker,var/lib/pontoon,etc/docker}
    mount -t proc proc "$root/proc"
    # A sysfs of this network namespace, with the host's control groups.
    mount -t sysfs sysfs "$root/sys"
    mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=755 run "$root/run"
    mkdir -p "$root/run/lock"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    mount --bind "$disk/docker" "$root/var/lib/docker"
    mount --bind "$disk/pontoon" "$root/var/lib/pontoon"
    mount --bind "$dir/lab" "$root/lab"
    # The legacy iptables, if PONTOON_IPTABLES is legacy.
    if [ "${PONTOON_IPTABLES:-}" = legacy ]; then
        for tool in {ip,ip6}tables{,-save,-restore}; do
            ln -sfn "/usr/sbin/${tool/tables/tables-legacy}" "$root/etc/alternatives/$tool"
        done
    fi
    # For dockerd's modprobe, on a kernel with modules.
    if [ -d "/lib/modules/$(uname -r)" ]; then
        mkdir -p "$root/lib/modules"
        mount --rbind /lib/modules "$root/lib/modules"
    fi
    while IFS=: read -r from to; do
        to=$root${to:-$from}
        if [ -d "$from" ]; then mkdir -p "$to"; elif [ ! -e "$to" ]; then mkdir -p "${to%/*}" && : >"$to"; fi
        mount --rbind "$from" "$to"
    done <"$dir/binds"
}

# The identity of this host and of this boot.
boot_identity() {
    local root=$1 node=$2
    echo "$node" >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 %s\n' "$node" >"$root/etc/hosts"
    # A resolver that refuses at once, since there is none: otherwise every look-up waits for its timeout.
    echo 'nameserver 192.168.77.254' >"$root/etc/resolv.conf"
    # A new /proc, as containers and managed plugins get, shows the real boot id again: for them there is /run/boot_id.
    cat /proc/sys/kernel/random/uuid >"$root/run/boot_id"
    mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
}
