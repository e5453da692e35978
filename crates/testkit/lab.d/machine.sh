# shellcheck shell=bash disable=SC2154
# A machine: a host that systemd boots, with its own units for dockerd, for tests of units and packages. It exists while
# one command runs in it. A node (node.sh) is started faster and can be stopped, killed and connected.

# machine DIR COMMAND...: boots this suite's engine root with systemd, runs the command with DIR as /lab, and ends
# with its exit code. /images has the images.
machine() {
    local suite shared dir init deadline status=0 group
    suite=$(host_suite)
    shared=$(realpath "$1")
    shift
    root_path "$suite" >/dev/null
    [ -d "$lab_roots/$suite.systemd" ] || die "no systemd for $suite: run make lab (or: crates/testkit/lab prepare $suite)"
    dir=$(mktemp -d "$lab_base/machine.XXXXXX")
    group=pontoon-${dir##*/}
    pid=
    # shellcheck disable=SC2064  # with the value of now
    trap "machine_end '$dir'" EXIT
    machine_join "$group"
    unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --net --cgroup -- \
        "$lab_script" __machine "$dir" "$suite" "$shared" >"$dir/boot.log" 2>&1 </dev/null &
    pid=$!
    # In version 2 of control groups, a group with processes of its own cannot divide its resources.
    machine_join ''
    deadline=$((SECONDS + ${PONTOON_LAB_PATIENCE:-90}))
    until init=$(pgrep -P "$pid") && [ -e "$dir/up" ] &&
        [[ $(machine_enter "$init" systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; do
        kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt "$deadline" ] ||
            { cat "$dir/boot.log" >&2; tail -n 30 "$dir/systemd.log" >&2; die "systemd did not boot"; }
        sleep 0.1
    done
    machine_enter "$init" "$@" || status=$?
    exit "$status"
}

machine_enter() {
    local init=$1
    shift
    nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}

# The hierarchies of control groups, one path a line.
machine_hierarchies() {
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then echo /sys/fs/cgroup; else printf '%s\n' /sys/fs/cgroup/*/cgroup.procs | sed 's|/cgroup.procs$||'; fi
}

# machine_join NAME: moves this process to the groups of this name, which are the roots of the machine's, or to the
# topmost ones.
machine_join() {
    local hierarchy file
    while read -r hierarchy; do
        mkdir -p "$hierarchy/$1"
        # An empty group of cpuset takes no process.
        for file in cpuset.cpus cpuset.mems; do
            [ -z "$1" ] || [ ! -e "$hierarchy/$file" ] || cat "$hierarchy/$file" >"$hierarchy/$1/$file"
        done
        echo $$ >"$hierarchy/$1/cgroup.procs"
    done < <(machine_hierarchies)
}

machine_end() {
    local hierarchy group=pontoon-${1##*/}
    machine_join ''
    if [ -n "$pid" ]; then
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    while read -r hierarchy; do
        # A group that is not empty yet: its processes are ending.
        until_true 5 machine_remove "$hierarchy/$group" || say "left behind: $hierarchy/$group"
    done < <(machine_hierarchies)
    root_remove "$1"
}

machine_remove() {
    [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
}

# machine_boot DIR SUITE SHARED: process 1 of the new namespaces.
machine_boot() {
    local dir=$1 suite=$2 shared=$3 root=$1/root device group
    mkdir -p "$dir"/{root,upper,work,docker}
    mount -t overlay overlay -o "lowerdir=$lab_roots/$suite.systemd:$lab_roots/$suite,upperdir=$dir/upper,workdir=$dir/work" "$root"
    mkdir -p "$root"/{lab,images,old,var/lib/docker}
    mount --bind "$dir/docker" "$root/var/lib/docker"
    mount --bind "$shared" "$root/lab"
    mount --bind "$lab_images" "$root/images"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t tmpfs -o mode=755 run "$root/run"
    # systemd creates devices and terminals: not those of this machine.
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for device in null zero full random urandom tty; do
        : >"$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir -p "$root"/dev/{pts,shm,mqueue}
    mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=666
    ln -s pts/ptmx "$root/dev/ptmx"
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then
        mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    else
        mount -t tmpfs -o mode=755 groups "$root/sys/fs/cgroup"
        for group in $(machine_hierarchies); do
            group=${group##*/}
            mkdir "$root/sys/fs/cgroup/$group"
            case $group in
                unified) mount -t cgroup2 cgroup "$root/sys/fs/cgroup/$group" ;;
                systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/$group" ;;
                *) mount -t cgroup -o "$group" cgroup "$root/sys/fs/cgroup/$group" ;;
            esac
        done
    fi
    ip link set lo up
    hostname machine
    : >"$dir/systemd.log" >"$dir/up"
    exec 3>"$dir/systemd.log"
    cd "$root" || exit
    pivot_root . old
    umount -l /old
    mount --make-rshared /
    exec env -i container=pontoon PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
        --log-target=console --unit=multi-user.target </dev/null >&3 2>&3
}
