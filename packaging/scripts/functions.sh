# What the maintainer scripts of both formats do. packaging/pack puts it at the top of each.
# No step fails the package manager: an image may have no systemd, and a cluster that runs is never touched from here.

units='@UNITS@'
manifests=/etc/kubernetes/manifests

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
    if systemd_runs; then
        systemctl --no-block try-restart irsad.service || :
    fi
}

stop_and_disable() {
    # shellcheck disable=SC2086 # one word a unit
    if systemd_runs; then
        systemctl stop $units || :
    fi
    # shellcheck disable=SC2086
    if command -v systemctl >/dev/null; then
        systemctl --no-reload disable $units >/dev/null 2>&1 || :
    fi
    for unit in $units; do
        rm -f "/etc/systemd/system/"*".wants/$unit"
    done
}

# Nothing is said where irsad was never set up.
say_what_stays() {
    [ -d /var/lib/irsad ] || return 0
    cat <<'TEXT'

irsad goes, the cluster stays as it is: tokens are issued and accepted as before. This stays in use:
TEXT
    grep -HoE -e '--service-account-(issuer|jwks-uri)[= ].*' "$manifests"/kube-apiserver.* 2>/dev/null | sed 's/^/  /' || :
    cat <<'TEXT'
  the service-account keys (kubeadm: /etc/kubernetes/pki/sa.key and sa.pub)
  the two public documents at the issuer, their bucket, and the IAM OIDC provider
Nobody puts any of it back now if it gets lost. To take it out of use, later:
  1. Put the issuer that signed before first again, on one control-plane node after the other and in ConfigMap
     kube-system/kubeadm-config; leave this one after it, so that tokens that are out stay accepted.
  2. A day later (rotation.tokenLifetime) take this issuer and --service-account-jwks-uri out in the same way.
  3. When no role trusts it any more: aws iam delete-open-id-connect-provider, then delete the two documents and the bucket.

TEXT
}
