# shellcheck shell=bash disable=SC2154
# The engine root: a Debian file system with the Docker engine of that suite.

root_packages=(
    docker.io mount iptables nftables iproute2 procps kmod ca-certificates
    iputils-ping curl jq util-linux conntrack
)
# installed if the suite has them
root_extras=(docker-registry)

prepare() {
    local suite
    [ $# -gt 0 ] || set -- "$(host_suite)"
    for suite in "$@"; do
        case $suite in
            bookworm | trixie | forky) ;;
            *) die "no such suite: $suite (bookworm, trixie, forky)" ;;
        esac
    done
    mkdir -p "$lab_nodes" "$lab_roots" "$lab_images"
    exec 9>"$lab_base/lock"
    flock -n 9 || { say "another 'lab prepare' is running, waiting for it"; flock 9; }
    host_prepare
    image_prepare
    for suite in "$@"; do root_prepare "$suite"; layer_prepare "$suite"; systemd_prepare "$suite"; done
    exec 9>&-
}

# Builds one root, unless it exists and has this recipe.
root_prepare() {
    local suite=$1 began=$SECONDS root=$lab_roots/$1 work=$lab_roots/.$1.new recipe packages=("${root_packages[@]}")
    [ "$suite" = bookworm ] || packages+=(docker-cli)
    recipe="$suite ${packages[*]} ${root_extras[*]}"
    if [ "$(cat "$root.recipe" 2>/dev/null)" = "$recipe" ] && [ -d "$root" ]; then
        say "$suite: ready"
        return 0
    fi
    say "$suite: building the engine root (about a minute)"
    root_remove "$work"
    # shellcheck disable=SC2016  # $1 belongs to mmdebstrap's shell
    root_bootstrap "$lab_roots/$suite.log" --variant=apt --include="$(IFS=,; echo "${packages[*]}")" \
        --customize-hook='for p in '"${root_extras[*]}"'; do if [ -n "$(chroot "$1" apt-cache search --names-only "^$p\$")" ]; then chroot "$1" apt-get install -y $p; fi; done' \
        --customize-hook='rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*' \
        "$suite" "$work"
    rm -f "$root.recipe"
    root_remove "$root"
    mv -T "$work" "$root"
    echo "$recipe" >"$root.recipe"
    say "$suite: $(root_engine "$suite"), $((SECONDS - began)) s, $(du -sm "$root" | cut -f1) MB"
}

root_engine() { chroot "$lab_roots/$1" dockerd --version | sed 's/,.*//'; }

# root_bootstrap LOG mmdebstrap-arguments...: in a separate mount namespace, so that an aborted build leaves no mounts.
root_bootstrap() {
    local log=$1 mirror
    shift
    mirror=$(host_mirror)
    unshare --mount --propagation private -- mmdebstrap --mode=root \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/bash-completion/*' \
        "$@" "$mirror" >"$log" 2>&1 9>&- || { tail -n 20 "$log" >&2; die "mmdebstrap failed, see $log"; }
}

root_remove() { [ ! -e "$1" ] || rm -rf --one-file-system "$1"; }

# The path of a suite's root; if there is none, an error with the remedy.
root_path() {
    [ -e "$lab_roots/$1.recipe" ] || die "no engine root for $1: run make lab (or: crates/testkit/lab prepare $1)"
    echo "$lab_roots/$1"
}
