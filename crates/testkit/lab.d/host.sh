# shellcheck shell=bash disable=SC2154
# The host: required programs of this machine, and the source of its packages.

# command:package, one a word
host_needs=(
    mmdebstrap:mmdebstrap ip:iproute2 nft:nftables unshare:util-linux nsenter:util-linux flock:util-linux mount:mount
    curl:curl jq:jq xz:xz-utils zstd:zstd ps:procps sysctl:procps tar:tar
    ping:iputils-ping ss:iproute2 iptables-nft:iptables conntrack:conntrack wg:wireguard-tools
)

host_prepare() {
    local need missing=()
    for need in "${host_needs[@]}"; do
        command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    say "installing on this machine: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The Debian archive that this machine's apt is configured with.
host_mirror() {
    local mirror=${PONTOON_MIRROR:-}
    [ -n "$mirror" ] || mirror=$(host_archive)
    if [ -z "$mirror" ]; then
        apt-get update -qq >&2
        mirror=$(host_archive)
    fi
    [ -n "$mirror" ] || die "apt knows no Debian archive on this machine: set PONTOON_MIRROR to one"
    echo "$mirror"
}

host_archive() {
    # shellcheck disable=SC2016  # apt expands it
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 'Origin: Debian' |
        awk '$2 == "Debian" { sub("/$", "", $1); if (!seen++) print $1 }'
}

# The suite of the engine if none is specified.
host_suite() {
    local codename
    codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
    case ${PONTOON_ENGINE:-$codename} in
        bookworm | trixie | forky) echo "${PONTOON_ENGINE:-$codename}" ;;
        *) [ -z "${PONTOON_ENGINE:-}" ] || die "no such engine: $PONTOON_ENGINE (bookworm, trixie, forky)"; echo bookworm ;;
    esac
}
