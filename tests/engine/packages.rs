//! The packages on a host with systemd: its own units for Docker, those of the package for Pontoon.

use std::{fs, path::Path, process::Command, time::Duration};

use testkit::{harness::Dir, lab, root, run};

/// Before each script: the image, and checks; a failure is shown with the service's log.
const PROLOGUE: &str = r#"
set -euo pipefail
exec 2>&1
fail() { echo "$*"; journalctl --no-pager -o cat -u pontoon | tail -n 20; exit 1; }
docker import --change 'CMD ["sh"]' /images/busybox.tar busybox >/dev/null
reaches() { docker run --rm --network demo busybox ping -c 1 -W 5 "$1" >/dev/null || fail "$1 does not answer"; }
up() {
    systemctl is-active --quiet pontoon.socket pontoon.service || fail "not active"
    pontoon status || fail "not healthy"
    [ "$(stat -c '%a %U %G' /run/pontoon/status.sock)" = '660 root pontoon' ] || fail "$(ls -la /run/pontoon)"
    docker network create -d pontoon --ipam-driver pontoon demo >/dev/null
    docker run -d --name web --network demo busybox sleep 10000 >/dev/null
    reaches web
    group=$(getent group pontoon | cut -d: -f3)
    setpriv --reuid 65534 --regid 65534 --groups "$group" pontoon ls | grep -q running || fail "the group cannot look"
    if journalctl --no-pager -o cat -u pontoon | grep WARN; then fail "warnings"; fi
    # The service ends in any way, and Docker does not notice.
    systemctl kill --signal=KILL pontoon.service
    reaches web
    systemctl restart docker.service
    docker start web >/dev/null
    reaches web
}
down() { docker rm -f web >/dev/null; docker network rm demo >/dev/null; }
nothing() {
    left=$(find / -xdev -name '*pontoon*' -not -path '/lab/*'; find /run -name '*pontoon*'
        nft list tables | grep pontoon || true; ip -o link | grep pnt || true; iptables-save | grep pontoon || true
        systemctl list-unit-files --no-legend 'pontoon*' || true)
    [ -z "$left" ] || fail "left behind: $left"
    systemctl is-failed --quiet docker.service && fail "Docker failed"
    docker run --rm busybox true
}
"#;

/// Packages Pontoon twice, and runs a script on a machine with the package as `$package`.
fn on_machine(kind: &str, script: &str) {
    let dir = Dir::new();
    let packaged = |name: &str| {
        let out = dir.0.join(name);
        fs::create_dir(&out).expect("a directory");
        let mut package = Command::new(root().join("plugin/package"));
        package.arg(kind).env("OUT", &out);
        let text = run(package, Duration::from_secs(300)).ok();
        let file = text.lines().last().expect("a file").to_owned();
        (Path::new(&file).file_name().expect("a name").to_owned(), fs::read(&file).expect("a package"))
    };
    let (first, second) = (packaged("first"), packaged("second"));
    assert!(first == second, "the same sources give other bytes");
    fs::write(dir.0.join("script"), format!("package=/lab/first/{}\n{PROLOGUE}\n{script}", first.0.display()))
        .expect("a script");
    let mut machine = lab(["machine"]);
    machine.arg(&dir.0).args(["bash", "/lab/script"]);
    let output = run(machine, Duration::from_secs(240));
    assert!(output.stdout.ends_with("well\n"), "{output}");
    output.ok();
}

#[test]
fn a_tarball_is_installed_and_removed() {
    let script = r#"
mkdir /opt/source && tar -C /opt/source --strip-components=1 -xf "$package" && cd /opt/source
plugin/setup.sh install-socket
up
plugin/setup.sh install-socket
reaches web
if plugin/setup.sh uninstall-socket; then fail "removed while a network uses it"; fi
down
PURGE=1 plugin/setup.sh uninstall-socket
rm -rf /opt/source
groupdel pontoon
nothing
echo well
"#;
    on_machine("tarball", script);
}

#[test]
fn a_package_is_installed_upgraded_removed_and_purged() {
    let script = r#"
dpkg -i "$package"
up
# An upgrade keeps settings, and containers notice nothing.
echo PONTOON_LOG=debug >>/etc/default/pontoon
docker exec web sh -c 'ping -i 0.1 172.18.0.1 >/tmp/pings 2>&1 & echo $! >/tmp/pid'
dpkg -i --force-confold "$package"
reaches web
docker exec web sh -c 'kill -INT $(cat /tmp/pid); sleep 1; grep " 0% packet loss" /tmp/pings' || fail "packets were lost"
journalctl --no-pager -o cat -u pontoon | grep -q DEBUG || fail "the setting was lost"
# Stopped by the operator, it stays stopped.
systemctl disable --quiet --now pontoon.socket pontoon.service
dpkg -i --force-confold "$package"
if systemctl is-active --quiet pontoon.service; then fail "started although it was disabled"; fi
systemctl enable --quiet --now pontoon.socket pontoon.service
if dpkg -r pontoon >/tmp/refusal 2>&1; then fail "removed while a network uses it"; fi
grep -q 'these networks use it: demo' /tmp/refusal || fail "$(cat /tmp/refusal)"
reaches web
down
dpkg -r pontoon
[ -e /etc/default/pontoon ] && [ -e /var/lib/pontoon/ledger ] || fail "settings or state were removed"
dpkg -i "$package"
pontoon status || fail "not healthy after it was installed again"
dpkg -P pontoon
groupdel pontoon
rm -f /tmp/refusal
nothing
# Beside the other ways to install it, it refuses.
mkdir -p /etc/systemd/system && touch /etc/systemd/system/pontoon.service
if dpkg -i "$package"; then fail "installed beside make install-socket"; fi
echo well
"#;
    on_machine("deb", script);
}
