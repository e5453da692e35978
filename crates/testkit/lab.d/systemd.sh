# shellcheck shell=bash disable=SC2154
# The systemd layer: systemd and D-Bus, installed over the engine root, for hosts that are booted by it (`machine`).

systemd_packages=(systemd dbus)

# systemd_prepare SUITE: unlike the other layer, it is installed and configured, with users and links of units. By apt,
# which configures what systemd depends on before it unpacks systemd.
systemd_prepare() {
    local suite=$1 began=$SECONDS root=$lab_roots/$1 layer=$lab_roots/$1.systemd work=$lab_roots/.$1.systemd
    local log=$lab_roots/$1.systemd.log recipe
    recipe="$(cat "$root.recipe"): ${systemd_packages[*]}"
    if [ "$(cat "$layer.recipe" 2>/dev/null)" = "$recipe" ] && [ -d "$layer" ]; then
        say "$suite, systemd: ready"
        return 0
    fi
    root_remove "$work"
    mkdir -p "$work"/{lists,archives}/partial "$work"/{layer,work,root}
    layer_download "$root" "$work" "${systemd_packages[@]}" >"$log" 2>&1 &&
        unshare --mount --propagation private -- bash -ec '
            mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/layer,workdir=$2/work" "$2/root"
            mount -t proc proc "$2/root/proc"
            mount -t tmpfs tmp "$2/root/tmp"
            cp "$2"/archives/*.deb "$2/root/tmp/"
            DEBIAN_FRONTEND=noninteractive chroot "$2/root" sh -c \
                "apt-get -y -qq --no-install-recommends install /tmp/*.deb && rm -f /var/cache/apt/*.bin"
            ' - "$root" "$work" >>"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; die "systemd cannot be installed over the engine root, see $log"; }
    rm -f "$layer.recipe"
    root_remove "$layer"
    mv -T "$work/layer" "$layer"
    root_remove "$work"
    echo "$recipe" >"$layer.recipe"
    say "$suite, systemd: $((SECONDS - began)) s, $(du -sm "$layer" | cut -f1) MB"
}
