# Somebody who watches the cluster from the first minute to the last. Sourced in a bench.
#
#   witness_start NODE                 begins to mint tokens, to present all that are alive, and to count starts of kube-apiserver
#   witness_has_seen_tokens NODE N     are N tokens known to it? Wait for it before the change that is tested
#   witness_stop [ISSUER]              ends it; fails unless every answered request accepted its token and forged ones were refused.
#                                      Tokens of ISSUER may have been refused: where that is the point of the test
#   witnessed FILTER                   prints what a jq filter finds in its report
#   api_server_restarts                prints how often kube-apiserver was started since witness_start, the first process not counted
#
# See witness.py for what is asked and what counts as refused.

witness_start() {
    local root
    root=$(node_root "$1")
    rm -f "$IRSAD_LOGS/witness.json"
    "$IRSAD_TEST_PYTHON" "${BASH_SOURCE[0]%/*}/witness.py" --kubeconfig "$root/etc/kubernetes/admin.conf" \
        --server "https://$(node_address "$1"):6443" --aws-ca "$IRSAD_BENCH/aws/ca.pem" --issuer "$AWS_ISSUER" \
        --report "$IRSAD_LOGS/witness.json" >"$IRSAD_LOGS/witness.log" 2>&1 &
    witness=$!
    wait_for 60 witness_has_seen_tokens 3
}

witnessed() { jq -r "$1" "$IRSAD_LOGS/witness.json" 2>/dev/null; }
witness_has_accepted() { (($(witnessed .accepted || echo 0) >= $1)); }
witness_has_seen_tokens() { (($(witnessed .minted || echo 0) >= $1)); }

witness_stop() {
    local refused
    # Tokens from before the change are presented after it, however short the test was.
    wait_for 60 witness_has_accepted $(($(witnessed .accepted) + 20))
    kill -TERM "$witness"
    wait "$witness" || fail "the witness failed: $(tail -n 3 "$IRSAD_LOGS/witness.log")"
    refused=$(jq --arg issuer "${1-}" '[.refused[] | select(.iss != $issuer)] | length' "$IRSAD_LOGS/witness.json")
    [[ $refused == 0 ]] || fail "$refused answers refused a valid token, first: $(witnessed '.refused[0]')"
    [[ $(witnessed .forged_accepted) == 0 ]] || fail 'a forged token was accepted'
    (($(witnessed .forged_refused) > 0)) || fail "the witness saw too little: $(witnessed .)"
}

api_server_restarts() { witnessed '(.starts | length) - 1'; }
