# irsad on the nodes of a bench. Sourced in a bench.
#
#   irsad_install NODE                 installs the package under test, as an administrator would
#   irsad_configure NODE [LINE...]     writes /etc/irsad/irsad.yaml: the three lines of the README, then each LINE
#   irsad_enable NODE                  systemctl enable --now irsad, without waiting for READY
#   irsad_everywhere [LINE...]         all three, on every node
#   irsad_status NODE                  prints the status line of systemctl status irsad
#   irsad_says NODE PATTERN            does the status line match this extended regular expression?
#   all_say PATTERN                    do those of all nodes?
#   all_are_ok                         are all nodes content with what their API server signs?
#   irsad_leader                       prints the node that leads
#   irsad_report NODE PATTERN          does irsad status there have a line that matches this extended regular expression?
#   all_look                           every node looks at once; those that are content do so once a minute
#   irsad_rotates NODE                 irsad rotate there, and every node looks at once
#   all_sign_anew KID                  does every API server sign with the same key, and not with KID?
#   irsad_verifies NODE                irsad verify holds every check; asked again, because one answer of AWS may be late on a busy machine
#   irsad_journal NODE                 prints what irsad logged, all boots
#   irsad_actions NODE                 prints the names of what irsad did, all boots, one a line
#   manifest_changes NODE              prints how often irsad replaced the manifest
#
# IRSAD_VM_PACKAGE is the .deb under test: the newest of IRSAD_CACHE/packages unless set.

package_under_test() {
    local package=${IRSAD_VM_PACKAGE-}
    [[ -n $package ]] || package=$(ls -t "$IRSAD_CACHE"/packages/irsad_*_amd64.deb 2>/dev/null | head -n 1)
    [[ -r $package ]] || fail "there is no package to test; run make packages"
    echo "$package"
}

irsad_install() {
    local package
    package=$(package_under_test)
    cp "$package" "$(node_root "$1")/root/irsad.deb"
    in_node "$1" dpkg --install /root/irsad.deb
}

irsad_configure() {
    local root
    root=$(node_root "$1")
    mkdir -p "$root/etc/irsad"
    printf '%s\n' 'version: 1' 'cluster: vm-test' "issuer: { store: s3://$AWS_BUCKET }" "${@:2}" >"$root/etc/irsad/irsad.yaml"
}

irsad_enable() {
    in_node "$1" systemctl enable irsad.service
    in_node "$1" systemctl start --no-block irsad.service
}

irsad_everywhere() {
    local node
    for node in $(nodes); do
        irsad_install "$node"
        irsad_configure "$node" "$@"
    done
    for node in $(nodes); do irsad_enable "$node"; done
}

irsad_status() { in_node "$1" systemctl show irsad.service --property StatusText --value; }
irsad_says() { grep -Eq -e "$2" <<<"$(irsad_status "$1")"; }
all_say() {
    local node
    for node in $(nodes); do irsad_says "$node" "$1" || return 1; done
}

all_are_ok() { all_say "^ok: kube-apiserver signs as $AWS_ISSUER with key"; }

irsad_leader() { kubectl -n kube-system get lease irsad -o 'jsonpath={.spec.holderIdentity}' | cut -d_ -f1; }
# Its exit code tells more than is asked here.
irsad_report() { (in_node "$1" irsad status || true) | grep -Eq -e "$2"; }

all_look() {
    local node
    for node in $(nodes); do in_node "$node" systemctl reload irsad.service; done
}

irsad_rotates() {
    in_node "$1" irsad rotate --yes
    all_look
}

all_sign_anew() {
    local kid node
    kid=$(signing_kid n1) && [[ $kid != "$1" ]] || return 1
    for node in $(nodes); do [[ $(signing_kid "$node") == "$kid" ]] || return 1; done
}

irsad_verifies() { wait_for 30 in_node "$1" irsad verify; }
irsad_journal() { in_node "$1" journalctl --unit irsad.service --no-pager -o short-precise; }
irsad_actions() { in_node "$1" journalctl --unit irsad.service --no-pager -o json | jq -r '.IRSAD_ACTION // empty'; }
manifest_changes() { irsad_actions "$1" | grep -c '^replace-manifest$' || true; }
