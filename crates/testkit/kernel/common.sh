# shellcheck shell=bash disable=SC2034,SC2154
# What the scripts beside this file share: where kernels are kept, and how they are named.
#
# A kernel is a directory $PONTOON_KERNELS/KIND-VERSION-PACKAGEVERSION-RECIPE (default: ~/.cache/pontoon/kernels), outside
# the build tree because it takes minutes to make. KIND is uml (user-mode Linux: `linux`, an ordinary program) or debian
# (a distribution's own: `vmlinuz`, `initrd`, `modules`). RECIPE is the hash of the files that made it.

kernel_scripts=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
kernel_cache=$(realpath -m "${PONTOON_KERNELS:-${XDG_CACHE_HOME:-$HOME/.cache}/pontoon/kernels}")

say() { echo "kernel: $*" >&2; }
die() { say "$@"; exit 1; }

# the host's packages and its archive
. "$kernel_scripts/../lab.d/host.sh"

# kernel_recipe KIND: the files that decide what comes out, as a hash. Not the script that builds user-mode Linux: a new
# comment in it is not worth minutes of everyone's time.
kernel_recipe() {
    local files=(kernel.config)
    [ "$1" = uml ] || files=(debian initrd.init)
    (cd "$kernel_scripts" && cat "${files[@]}") | sha256sum | cut -c 1-12
}

# kernel_cached KIND VERSION: the newest one here that this recipe made; fails if there is none.
kernel_cached() {
    local found
    found=$(find "$kernel_cache" -maxdepth 1 -name "$1-$2-*-$(kernel_recipe "$1")" -printf '%T@ %p\n' 2>/dev/null |
        sort -n | tail -n 1 | cut -d ' ' -f 2-)
    [ -n "$found" ] && echo "$found"
}

# kernel_lock NAME: one builder of a kernel at a time; the lock ends with this process.
kernel_lock() {
    mkdir -p "$kernel_cache"
    exec 9>"$kernel_cache/.$1.lock"
    flock -n 9 || { say "$1: another build is at work, waiting for it"; flock 9; }
}
