#!/bin/bash
# Installs Pontoon on this host, and removes it.
#
#   setup.sh install            install or upgrade the managed plugin from target/plugin, as pontoon:latest
#   setup.sh uninstall          remove it
#   setup.sh install-socket     install or upgrade the binary, a systemd socket and a service; the driver name is pontoon
#   setup.sh uninstall-socket   remove them; the state stays unless PURGE=1
#
# FORCE=1 continues although Pontoon is in use. PREFIX (/usr/local), DESTDIR, UNITS and TMPFILES (the directories of
# units and of tmpfiles.d, in /etc) apply to install-socket; with DESTDIR it only installs files and does not touch
# services.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/../target
plugin=pontoon:latest
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
socket=/run/docker/plugins/pontoon.sock
state=/var/lib/pontoon
units=${UNITS:-/etc/systemd/system}
tmpfiles=${TMPFILES:-/etc/tmpfiles.d}
operators=pontoon # the group that may read the status socket
# what the program prints, and its file below share/
help='man man/man8/pontoon.8
completions-bash bash-completion/completions/pontoon
completions-zsh zsh/site-functions/_pontoon
completions-fish fish/vendor_completions.d/pontoon.fish'

say() { echo "pontoon: $*"; }
die() { echo "pontoon: $*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || die "needs root: sudo make $1"; }
need_docker() {
    command -v docker >/dev/null || die "docker is not installed (Debian: apt-get install docker.io)"
    docker version --format '{{.Server.Version}}' >/dev/null || die "Docker does not answer: check that it runs and that this user may use it"
}

plugin_get() { docker plugin inspect --format "$1" "$plugin" 2>/dev/null; }
plugin_is_there() { plugin_get '{{.Id}}' >/dev/null; }
# the host directory that the engine mounts into the plugin at /var/lib/pontoon
plugin_state() { echo "$(docker info --format '{{.DockerRootDir}}')/plugins/$(plugin_get '{{.Id}}')/propagated-mount"; }

# networks_of NAME: the names of the networks that have NAME as their driver or IPAM driver
networks_of() {
    local ids
    ids=$(docker network ls --quiet --no-trunc)
    # shellcheck disable=SC2086  # one word per id
    [ -z "$ids" ] || docker network inspect --format '{{.Name}} {{.Driver}} {{.IPAM.Driver}}' $ids |
        awk -v name="$1" '$2 == name || $3 == name { print $1 }'
}

refuse_while_used() {
    local used
    used=$(networks_of "$1" | tr '\n' ' ')
    [ -z "$used" ] || [ "${FORCE:-}" = 1 ] ||
        die "these networks use it: $used- remove them first (docker network rm), or set FORCE=1"
}

# Two daemons on one host would revert each other's changes.
refuse_beside() {
    [ "${FORCE:-}" != 1 ] || return 0
    case $1 in
        socket) ! plugin_is_there || die "the managed plugin $plugin is installed: run make uninstall first" ;;
        managed) [ ! -S "$socket" ] || die "$socket exists, so the socket plugin is installed: run make uninstall-socket first" ;;
    esac
}

install_managed() {
    need_docker
    refuse_beside managed
    [ -e "$target/plugin/config.json" ] || die "target/plugin does not exist: run make plugin"
    if plugin_is_there; then
        upgrade_managed
    else
        docker plugin create "$plugin" "$target/plugin" >/dev/null
        enable_managed
    fi
    say "$plugin is installed. Try:"
    say "  docker network create -d $plugin --ipam-driver $plugin demo"
    say "  docker run --rm --network demo IMAGE"
}

enable_managed() {
    docker plugin enable "$plugin" >/dev/null ||
        die "the plugin does not start; Docker's log has the reason (journalctl -u docker, lines with plugin=)"
}

# `docker plugin upgrade` requires a registry. Without one the plugin is removed and created again under a new id, with
# its state and settings. Containers keep running; requests fail until the plugin is back.
upgrade_managed() {
    local from copy setting
    need_root install
    from=$(plugin_state)
    [ -d "${from%/*}" ] || die "$plugin is installed on another machine (${from%/*} does not exist here): upgrade it there"
    say "$plugin is installed: replacing it, keeping its state and settings"
    mapfile -t settings < <(plugin_get '{{range .Settings.Env}}{{println .}}{{end}}')
    copy=$(mktemp -d /var/lib/pontoon-upgrade-XXXXXX)
    trap 'echo "pontoon: the upgrade did not finish; the previous state is in $copy" >&2' EXIT
    [ "$(plugin_get '{{.Enabled}}')" != true ] || docker plugin disable --force "$plugin" >/dev/null
    [ ! -d "$from" ] || cp -a "$from/." "$copy/"
    docker plugin rm --force "$plugin" >/dev/null
    docker plugin create "$plugin" "$target/plugin" >/dev/null
    mkdir -p "$(plugin_state)"
    cp -a "$copy/." "$(plugin_state)/"
    mapfile -t settable < <(plugin_get '{{range .Config.Env}}{{if .Settable}}{{println .Name}}{{end}}{{end}}')
    for setting in "${settings[@]}"; do
        if [ -n "$setting" ] && printf '%s\n' "${settable[@]}" | grep -qxF -- "${setting%%=*}"; then
            docker plugin set "$plugin" "$setting"
        fi
    done
    enable_managed
    trap - EXIT
    rm -rf "$copy"
}

uninstall_managed() {
    need_docker
    plugin_is_there || { say "$plugin is not installed"; return; }
    refuse_while_used "$plugin"
    [ "$(plugin_get '{{.Enabled}}')" != true ] || docker plugin disable --force "$plugin" >/dev/null
    # before the state is deleted, so that what cannot be removed keeps its ledger
    remove_leftovers "$target/pontoon" || die "$plugin is disabled and stays installed; docker plugin enable $plugin starts it again"
    docker plugin rm --force "$plugin" >/dev/null
    say "$plugin and its state are removed"
}

install_socket() {
    [ -x "$target/pontoon" ] || die "target/pontoon does not exist: run make build"
    if [ -z "$destdir" ]; then
        need_root install-socket
        if command -v docker >/dev/null; then refuse_beside socket; fi
    fi
    install -D -m 755 "$target/pontoon" "$destdir$prefix/bin/pontoon.new"
    mv "$destdir$prefix/bin/pontoon.new" "$destdir$prefix/bin/pontoon"
    mkdir -p "$destdir$units"
    cp "$here/systemd/pontoon.socket" "$destdir$units/"
    sed "s|/usr/local/bin/|$prefix/bin/|" "$here/systemd/pontoon.service" >"$destdir$units/pontoon.service"
    install -D -m 644 "$here/systemd/pontoon.tmpfiles" "$destdir$tmpfiles/pontoon.conf"
    install_help
    chmod 644 "$destdir$units"/pontoon.{socket,service}
    [ -z "$destdir" ] || return 0
    prepare_operators
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable --quiet --now pontoon.socket
        systemctl enable --quiet pontoon.service
        # the socket stays open, so requests of Docker wait
        systemctl restart pontoon.service
        systemctl is-active --quiet pontoon.service || die "the service does not start: journalctl -u pontoon"
        say "pontoon is installed and running (systemctl status pontoon). Try:"
        say "  docker network create -d pontoon --ipam-driver pontoon demo"
        say "  docker run --rm --network demo IMAGE"
    else
        say "installed, but systemd is not running. Start this before dockerd, and keep it running:"
        say "  $prefix/bin/pontoon serve --socket $socket --state-dir $state"
    fi
}

# The manual page, and what completes commands, flags and names in shells. The program prints them.
install_help() {
    local kind file
    while read -r kind file; do
        mkdir -p "$(dirname "$destdir$prefix/share/$file")"
        # shellcheck disable=SC2086  # words of a command
        "$target/pontoon" ${kind/-/ } >"$destdir$prefix/share/$file.new" ||
            die "target/pontoon does not run on this machine, so it cannot print $file: run make build here"
        chmod 644 "$destdir$prefix/share/$file.new"
        mv "$destdir$prefix/share/$file.new" "$destdir$prefix/share/$file"
    done <<<"$help"
}

# The group whose members may run pontoon status without root, and the directory of its socket.
prepare_operators() {
    grep -q "^$operators:" /etc/group || groupadd --system "$operators" ||
        say "there is no group $operators: only root can use the status socket"
    install -d -m 755 /run/pontoon
    if grep -q "^$operators:" /etc/group; then
        chgrp "$operators" /run/pontoon
        chmod 2755 /run/pontoon
    fi
}

uninstall_socket() {
    local file
    if [ -z "$destdir" ]; then
        need_root uninstall-socket
        if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
            refuse_while_used pontoon
        elif [ "${FORCE:-}" != 1 ]; then
            say "Docker does not answer, so networks that use Pontoon cannot be checked: continuing"
        fi
        if [ -d /run/systemd/system ]; then
            systemctl disable --quiet --now pontoon.socket pontoon.service 2>/dev/null || true
        fi
        remove_leftovers "$prefix/bin/pontoon" || die "the service is stopped, everything else stays; systemctl enable --now pontoon.socket starts it again"
    fi
    rm -f "$destdir$units"/pontoon.{socket,service} "$destdir$prefix/bin/pontoon" "$destdir$socket"
    rm -f "$destdir$tmpfiles/pontoon.conf" "$destdir/run/pontoon/status.sock"
    rmdir "$destdir/run/pontoon" 2>/dev/null || true
    while read -r _ file; do rm -f "$destdir$prefix/share/$file"; done <<<"$help"
    [ -z "$destdir" ] || return 0
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
    if [ "${PURGE:-}" = 1 ]; then
        rm -rf "$state"
        say "removed, including the state"
    else
        say "removed; the state stays in $state (PURGE=1 removes it)"
    fi
}

# Pontoon leaves links and rules in place when it stops, so that containers keep their network. `pontoon uninstall` finds
# them in the kernel, and refuses while containers are attached or another Pontoon serves here.
# remove_leftovers PROGRAM
remove_leftovers() {
    local cut=()
    [ "$(id -u)" = 0 ] || { say "links and rules stay, because this is not root: run sudo pontoon uninstall --yes"; return 0; }
    [ -x "$1" ] || die "links and rules stay, because $1 does not exist: run make build"
    if [ "${FORCE:-}" = 1 ]; then
        mapfile -t cut < <("$1" uninstall | sed -n 's/^link \([^ ]*\) .*attached$/--cut\n\1/p')
    fi
    "$1" uninstall --yes "${cut[@]}"
}

case ${1:-} in
    install) install_managed ;;
    uninstall) uninstall_managed ;;
    install-socket) install_socket ;;
    uninstall-socket) uninstall_socket ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
