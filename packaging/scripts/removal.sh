# What both formats do before irsad is removed.

units='@UNITS@'
manifests=/etc/kubernetes/manifests

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

# For the next boot, which is no longer irsad's: an irsad that is installed again later must not put back an issuer that was taken
# out meanwhile. With it go the copies of the private key.
forget_proven() {
    rm -rf /var/lib/irsad/proven.json /var/lib/irsad/proven
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
  MutatingWebhookConfiguration irsad-pod-identity, where webhook.mode was builtIn. Nothing answers it on this node now: pods that are
    created through its API server get no AWS credentials, and with failurePolicy Fail they are refused. Once irsad is on no node:
    kubectl delete mutatingwebhookconfiguration irsad-pod-identity
Nobody puts any of it back now if it gets lost. To take it out of use, later:
  1. Put the issuer that signed before first again, on one control-plane node after the other and in ConfigMap
     kube-system/kubeadm-config; leave this one after it, so that tokens that are out stay accepted.
  2. When no token of this issuer is in use any more (a program that never reads its token again keeps one for up to a year), take
     it and --service-account-jwks-uri out in the same way.
  3. When no role trusts it any more: aws iam delete-open-id-connect-provider, then delete the two documents and the bucket.

TEXT
    if [ -e /var/lib/irsad/change.json ]; then
        cat <<'TEXT'
A change of the kube-apiserver manifest was under way and is no longer watched. If the API server does not come back, the files of
before are in /var/lib/irsad/last-good.

TEXT
    fi
}
