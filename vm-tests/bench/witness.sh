# Somebody who watches the cluster from the first minute to the last. Sourced in a bench.
#
#   witness_start NODE...              begins to mint tokens at these nodes, to present all that are alive to each, and to count starts
#                                      of kube-apiserver. The first has joined; others may do so later
#   witness_knows_pods NODE...         starts a pod on each NODE; its tokens, for AWS and its own, are presented in every round too
#   witness_has_seen_tokens N          are N tokens known to it? Wait for it before the change that is tested
#   witness_stop [ISSUER]              ends it; fails unless every answered request accepted its token and forged ones were refused.
#                                      Tokens of ISSUER may have been refused: where that is the point of the test
#   witnessed FILTER                   prints what a jq filter finds in its report
#   witness_saw_one_down               fails unless at most one API server was down at any time
#   api_server_restarts [NODE]         prints how often kube-apiserver of NODE, n1 unless given, was started since witness_start, the
#                                      first process not counted
#
# See witness.py for what is asked and what counts as refused.

witness_start() {
    local root node servers=()
    root=$(node_root "$1")
    for node in "$@"; do servers+=("--server=$node=https://$(node_address "$node"):6443"); done
    rm -f "$IRSAD_LOGS/witness.json"
    "$IRSAD_TEST_PYTHON" "${BASH_SOURCE[0]%/*}/witness.py" --kubeconfig "$root/etc/kubernetes/admin.conf" "${servers[@]}" \
        --aws-ca "$IRSAD_BENCH/aws/ca.pem" --issuer "$AWS_ISSUER" --bench "$IRSAD_BENCH_NAME" --pod-tokens "$IRSAD_BENCH/pod-tokens" \
        --report "$IRSAD_LOGS/witness.json" >"$IRSAD_LOGS/witness.log" 2>&1 &
    witness=$!
    wait_for 60 witness_has_seen_tokens 3
}

witness_knows_pods() {
    local node name for_aws own
    for node in "$@"; do
        name=witnessed-$node-$SECONDS
        for_aws=$(pod_token "$node" "$name")
        own=$(pod_own_token "$node" "$name")
        # In one write: the witness reads at any time.
        printf '%s\n' "$for_aws" "$own" >>"$IRSAD_BENCH/pod-tokens"
    done
}

witnessed() { jq -r "$1" "$IRSAD_LOGS/witness.json" 2>/dev/null; }
witness_has_accepted() { (($(witnessed .accepted || echo 0) >= $1)); }
witness_has_seen_tokens() { (($(witnessed .minted || echo 0) >= $1)); }

witness_stop() {
    local refused
    kill -0 "$witness" || fail "the witness failed: $(tail -n 3 "$IRSAD_LOGS/witness.log")"
    # Tokens from before the change are presented after it, however short the test was.
    wait_for 60 witness_has_accepted $(($(witnessed .accepted) + 20))
    kill -TERM "$witness"
    wait "$witness" || fail "the witness failed: $(tail -n 3 "$IRSAD_LOGS/witness.log")"
    refused=$(jq --arg issuer "${1-}" '[.refused[] | select(.iss != $issuer)] | length' "$IRSAD_LOGS/witness.json")
    [[ $refused == 0 ]] || fail "$refused answers refused a valid token, first: $(witnessed '.refused[0]')"
    [[ $(witnessed .forged_accepted) == 0 ]] || fail 'a forged token was accepted'
    (($(witnessed .forged_refused) > 0)) || fail "the witness saw too little: $(witnessed .)"
}

witness_saw_one_down() { (($(witnessed .most_down) <= 1)) || fail "$(witnessed .most_down) API servers were down at once"; }
api_server_restarts() { witnessed "(.starts.${1-n1} | length) - 1"; }
