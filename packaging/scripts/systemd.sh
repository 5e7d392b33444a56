# What the maintainer scripts of both formats do; packaging/pack puts it at the top of each.
# No step fails the package manager: an image may have no systemd, and a cluster that runs is never touched from here.

# systemd runs here: not so in a chroot that becomes an image.
systemd_runs() {
    [ -d /run/systemd/system ]
}

prepare_host() {
    if command -v systemd-tmpfiles >/dev/null; then
        systemd-tmpfiles --create irsad.conf || :
    fi
    reload_systemd
}

reload_systemd() {
    if systemd_runs; then
        systemctl daemon-reload || :
    fi
}

# Only irsad itself. --no-block: its first pass may wait for a network, the package manager must not.
restart_irsad_if_it_runs() {
    systemd_runs || return 0
    code=0
    irsad check-config >/dev/null 2>&1 || code=$?
    # The process that runs works with the configuration of before; a new one would end, and nobody would watch a change that is open.
    if [ "$code" = 2 ]; then
        echo 'irsad: not restarted, the configuration has mistakes (irsad check-config); mend it, then systemctl restart irsad'
        return 0
    fi
    systemctl --no-block try-restart irsad.service || :
}
