# shellcheck shell=bash disable=SC2154
# The layer: additional programs of a host: well-known servers and their clients, and the firewalls of distributions. It
# is mounted over the engine root in nodes that request it (`lab up --full`).

layer_packages=(
    firewalld ufw dbus-daemon nginx dnsmasq-base knot-dnsutils redis-server iperf3 docker-compose
    kea-dhcp4-server udhcpd
)
# installed if the suite has them
layer_extras=(isc-dhcp-server)
# packages that a node without systemd does not need
layer_skips='^(systemd|libsystemd-shared|libpam-|polkitd|libpolkit|libcryptsetup|libnm0|gir1.2-nm|dbus-session|sgml-base|xml-core)'

# layer_prepare SUITE: extracted, not configured; nothing of it starts automatically. Fast, because dpkg is not
# involved.
layer_prepare() {
    local suite=$1 began=$SECONDS root=$lab_roots/$1 layer=$lab_roots/$1.full work=$lab_roots/.$1.full
    local recipe package
    recipe="$(cat "$root.recipe"): ${layer_packages[*]} ${layer_extras[*]}, not $layer_skips"
    if [ "$(cat "$layer.recipe" 2>/dev/null)" = "$recipe" ] && [ -d "$layer" ]; then
        say "$suite, servers and firewalls: ready"
        return 0
    fi
    root_remove "$work"
    mkdir -p "$work"/{lists,archives}/partial "$work"/full/usr/{bin,sbin,lib}
    # As in the root below it: a directory would hide its content.
    ln -s usr/bin usr/sbin usr/lib "$work/full/"
    layer_download "$root" "$work" "${layer_packages[@]}" "${layer_extras[@]}" >"$lab_roots/$suite.full.log" 2>&1 ||
        { tail -n 20 "$lab_roots/$suite.full.log" >&2; die "apt-get failed, see $lab_roots/$suite.full.log"; }
    for package in "$work"/archives/*.deb; do
        [[ ${package##*/} =~ $layer_skips ]] ||
            dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$work/full"
    done
    layer_complete "$work/full"
    rm -f "$layer.recipe"
    root_remove "$layer"
    mv -T "$work/full" "$layer"
    root_remove "$work"
    echo "$recipe" >"$layer.recipe"
    say "$suite, servers and firewalls: $((SECONDS - began)) s, $(du -sm "$layer" | cut -f1) MB"
}

# layer_download ROOT WORK PACKAGE...: the packages and their dependencies beyond the root, with this machine's apt.
layer_download() {
    local root=$1 work=$2
    shift 2
    local options=(
        -o Dir::State::status="$root/var/lib/dpkg/status" -o Dir::State::lists="$work/lists"
        -o Dir::Cache::archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Dir::Etc::sourcelist="$root/etc/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o APT::Sandbox::User=root
        -o APT::Install-Recommends=false
    )
    apt-get "${options[@]}" update -qq || return
    local package packages=()
    for package; do
        if [[ " ${layer_extras[*]} " != *" $package "* ]] ||
            [ -n "$(apt-cache "${options[@]}" search --names-only "^$package\$")" ]; then
            packages+=("$package")
        fi
    done
    apt-get "${options[@]}" install -y -qq --download-only "${packages[@]}"
}

# layer_complete DIR: does the work of the packages' scripts, and removes unused files.
layer_complete() (
    cd "$1"
    rm -rf usr/share/{doc,man,locale,info,bash-completion,zsh,lintian} usr/lib/python3*/{pydoc_data,ensurepip,test}
    cp usr/share/ufw/{before,after,user}*.rules etc/ufw/ 2>/dev/null || cp usr/share/ufw/iptables/*.rules etc/ufw/
    cp usr/share/ufw/ufw.conf etc/ufw/
)
