# shellcheck shell=bash disable=SC2154
# The images: two small root file systems for `docker import`, made of Debian's packages.
#   busybox    static busybox and its applets
#   nettools   bash, ip, ss, bridge, tc, ping, arping, nft, curl, socat, tcpdump, iperf3, getent; busybox for the rest

# trixie for every engine: bookworm's static busybox crashes in wget
image_suite=trixie
image_packages=(
    base-files bash busybox-static iproute2 iputils-ping iputils-arping nftables curl socat tcpdump iperf3 libc-bin
    ca-certificates
)
image_command='CMD ["sh", "-c", "trap exit TERM; sleep 1000000 & wait"]'

image_prepare() {
    local began=$SECONDS recipe="$image_suite ${image_packages[*]}" work=$lab_images/.new name
    if [ "$(cat "$lab_images/recipe" 2>/dev/null)" = "$recipe" ]; then
        say "images: ready"
        return 0
    fi
    say "images: building busybox and nettools"
    root_remove "$work"
    mkdir -p "$work/busybox"
    root_bootstrap "$lab_images/build.log" --variant=extract \
        --include="$(IFS=,; echo "${image_packages[*]}")" "$image_suite" "$work/nettools"
    image_busybox "$work/nettools/usr/bin/busybox" "$work/busybox"
    image_nettools "$work/nettools"
    rm -f "$lab_images/recipe"
    for name in busybox nettools; do
        tar -C "$work/$name" --owner=0 --group=0 --numeric-owner -cf "$work/$name.tar" .
        mv "$work/$name.tar" "$lab_images/$name.tar"
    done
    root_remove "$work"
    echo "$recipe" >"$lab_images/recipe"
    say "images: $((SECONDS - began)) s, $(du -cm "$lab_images"/*.tar | tail -n 1 | cut -f1) MB"
}

# image_busybox BINARY DIR
image_busybox() {
    local root=$2 applet
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,usr,var/www}
    chmod 1777 "$root/tmp"
    ln -s ../bin "$root/usr/bin"
    ln -s bin "$root/sbin"
    cp "$1" "$root/bin/busybox"
    for applet in $("$1" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    image_accounts "$root"
}

# Completes a file system of extracted, not configured packages.
image_nettools() {
    local root=$1 applet
    rm -rf "$root"/var/lib/{apt,dpkg} "$root"/var/{cache,log} "$root"/usr/share/{doc,man,locale,perl5,bash-completion,info,zoneinfo} \
        "$root"/usr/lib/*/{perl-base,gconv} "$root"/etc/apt
    mkdir -p "$root"/{dev,proc,sys,run,tmp,root}
    # The packages are not configured, so busybox's applets replace missing programs, but never existing ones.
    for applet in $("$root/usr/bin/busybox" --list); do
        [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
    done
    # busybox's own shell prefers its applets to the programs in PATH.
    ln -sf bash "$root/usr/bin/sh"
    image_accounts "$root"
}

image_accounts() {
    echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
    echo 'root:x:0:' >"$1/etc/group"
    echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

# image_load NODE NAME: as NAME:latest, with a command that sleeps and ends at once on TERM.
image_load() {
    local node=$1 name=$2
    [ -e "$lab_images/$name.tar" ] || die "no image $name: run make lab"
    node_enter "$node" docker import -c "$image_command" - "$name:latest" <"$lab_images/$name.tar" >/dev/null
}
