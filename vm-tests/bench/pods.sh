# Pods with roles, and a load of them. Sourced in a bench.
#
#   account_with_role NAME             makes a service account with a role of that name, which IAM of the bench has too
#   has_credentials                    has the pod (JSON on standard input) the role's variables and the volume with the token?
#   creates_pods_with_credentials NODE ACCOUNT   does a pod that is created at NODE's API server, for show, have them?
#   registration_is_there              is the built-in webhook registered?
#   trusts NODE...                     does the registration trust the certificates of these nodes, and of no other?
#   load_start NODE ACCOUNT            begins to create pods at NODE's API server, for show (see pods.py)
#   load_has_created N                 N pods since load_start?
#   load_stop                          ends it
#   load_is_well                       fails where a call failed, or a pod came without credentials
#   load_figures                       prints what there was, for people
#   loaded FILTER                      prints what a jq filter finds in its report

readonly LOAD_PODS_PER_SECOND=200 LOAD_CONNECTIONS=8

account_with_role() {
    local policy
    policy=$(in_node n1 irsad trust-policy --account 123456789012 --namespace default --service-account "$1")
    aws create-role "$1" "$policy"
    kubectl create serviceaccount "$1"
    kubectl annotate serviceaccount "$1" "eks.amazonaws.com/role-arn=arn:aws:iam::123456789012:role/$1"
}

has_credentials() {
    jq -e '([.spec.containers[].env[]?.name] | contains(["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"])) and
        any(.spec.volumes[]?; .name == "aws-iam-token") and
        any(.spec.containers[].volumeMounts[]?; .name == "aws-iam-token")' >/dev/null
}

creates_pods_with_credentials() {
    pod_of_account "$1" for-show "$2" | kubectl_at "$1" create --dry-run=server -o json -f - | has_credentials
}

registration() { kubectl get mutatingwebhookconfiguration irsad-pod-identity --ignore-not-found "$@"; }
registration_is_there() { [[ -n $(registration -o name) ]]; }

# What every node serves with, as a client sees it; an unset bundle is none.
trusts() {
    local node served bundle
    served=$(for node in "$@"; do
        in_node "$node" openssl s_client -connect 127.0.0.1:23443 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 || true
    done | sort)
    bundle=$(registration -o 'jsonpath={.webhooks[0].clientConfig.caBundle}' | base64 -d |
        "$IRSAD_TEST_PYTHON" -c '
import hashlib, re, ssl, sys
for pem in re.findall("-----BEGIN.*?-----END CERTIFICATE-----", sys.stdin.read(), re.DOTALL):
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    print("sha256 Fingerprint=" + ":".join(re.findall("..", digest)))' | sort)
    [[ $(wc -l <<<"$bundle") == "$#" && $served == "$bundle" ]]
}

load_start() {
    rm -f "$IRSAD_LOGS/pods.json"
    "$IRSAD_TEST_PYTHON" "${BASH_SOURCE[0]%/*}/pods.py" --kubeconfig "$(node_root n1)/etc/kubernetes/admin.conf" \
        --server "https://$(node_address "$1"):6443" --account "$2" --rate "$LOAD_PODS_PER_SECOND" --connections "$LOAD_CONNECTIONS" \
        --report "$IRSAD_LOGS/pods.json" >"$IRSAD_LOGS/pods.log" 2>&1 &
    load=$!
}

loaded() { jq -r "$1" "$IRSAD_LOGS/pods.json" 2>/dev/null; }
load_has_created() { (($(loaded .pods || echo 0) >= $1)); }

load_stop() {
    kill -TERM "$load"
    wait "$load" || fail "the load failed: $(tail -n 3 "$IRSAD_LOGS/pods.log")"
}

load_figures() {
    loaded '"\(.pods) pods, \(.failed | length) failed, \(.unpatched | length) without credentials, slowest \(.slowest_seconds) s"'
}

load_is_well() {
    local wrong
    wrong=$(loaded '.failed + .unpatched | .[:3] | tojson')
    [[ $wrong == '[]' ]] || fail "$(load_figures): $wrong"
}
