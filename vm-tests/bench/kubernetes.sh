# The cluster on the nodes of a bench. Sourced in a bench.
#
#   kubeadm_configuration NODE [LINE...]   prints a configuration for kubeadm init on NODE; each LINE is one of
#                                      ClusterConfiguration's apiServer section, indented as there
#   kubeadm_init NODE [LINE...]        kubeadm init with that configuration; returns when the API server is ready
#   kubeadm_join NODE                  kubeadm join --control-plane, with the certificates of the last init
#   join_configuration NODE            prints the kubeadm configuration with which NODE joins n1's cluster as a control-plane node
#   api_ready NODE                     is this node's API server ready?
#   kubectl ARGUMENT...                as administrator, against n1's API server
#   kubectl_at NODE ARGUMENT...        against that node's
#   api_server_pid NODE                pid of kube-apiserver as the node sees it
#   api_server_flags NODE NAME         values of one flag of the running process, one a line
#   pod_token NODE NAME                starts a real pod with a token for sts.amazonaws.com (host network, projected volume) and
#                                      prints the token that kubelet wrote for it
#   pod_of_account NODE NAME ACCOUNT   prints the manifest of a pod of this service account, on the host network, with no token for AWS
#   pod_runs NAME                      does it run?
#   pod_aws_token NODE NAME            prints the token for AWS that kubelet wrote for a pod that runs on NODE
#   pod_own_token NODE NAME            prints the token with which that pod would ask the API server
#   signing_kid NODE                   prints the key id of a token that NODE's API server signs now
#   persisted_issuers                  prints the issuers that kubeadm-config has for nodes that join
#   claim TOKEN NAME                   prints one claim
#
# QUICK_RESTARTS=1 (default) gives kube-apiserver 2 s to end instead of 30: then a restart takes 17 s instead of 42.

readonly CERTIFICATE_KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
readonly BOOTSTRAP_TOKEN=abcdef.0123456789abcdef
readonly AUDIENCE=sts.amazonaws.com

# Nodes have no pod network: they stay NotReady, which keeps no static pod and no pod on the host's network from running.
# SystemVerification wants to read the kernel's configuration.
readonly KUBEADM=(kubeadm --ignore-preflight-errors=SystemVerification)

node_registration() {
    cat <<YAML
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  kubeletExtraArgs: [ { name: node-ip, value: $(node_address "$1") } ]
YAML
    [[ ${QUICK_RESTARTS-1} == 0 ]] || echo 'patches: { directory: /root/patches }'
}

kubeadm_configuration() {
    cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: $(node_address "$1"), bindPort: 6443 }
certificateKey: $CERTIFICATE_KEY
bootstrapTokens:
- { token: $BOOTSTRAP_TOKEN, ttl: 24h0m0s, groups: ["system:bootstrappers:kubeadm:default-node-token"], usages: [signing, authentication] }
$(node_registration "$1")
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $("$IRSAD_TEST_KUBERNETES/kubeadm" version -o short)
imageRepository: images.test
controlPlaneEndpoint: api.test:6443
networking: { podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16 }
$([[ $# -eq 1 ]] || printf 'apiServer:\n' && printf '%s\n' "${@:2}")
---
$(kubelet_configuration)
YAML
}

# cgroup v1, no swap to look at, a root file system whose size means nothing, no iptables of kubelet's own.
kubelet_configuration() {
    cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: ""
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: { memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%" }
YAML
}

# kubeadm's own way to change a manifest that it writes.
write_patches() {
    local folder
    folder=$(node_root "$1")/root/patches
    mkdir -p "$folder"
    printf 'spec:\n  terminationGracePeriodSeconds: 2\n' >"$folder/kube-apiserver+strategic.yaml"
}

kubeadm_init() {
    write_patches "$1"
    kubeadm_configuration "$@" >"$(node_root "$1")/root/kubeadm.yaml"
    # Returns when it is up, also where the node has only just booted.
    in_node "$1" systemctl start containerd.service
    in_node "$1" "${KUBEADM[@]}" init --config /root/kubeadm.yaml --skip-phases=addon --upload-certs
    wait_for 60 api_ready "$1"
}

join_configuration() {
    local hash
    hash=$(openssl x509 -pubkey -noout -in "$(node_root n1)/etc/kubernetes/pki/ca.crt" |
        openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)
    cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: { token: $BOOTSTRAP_TOKEN, apiServerEndpoint: "api.test:6443", caCertHashes: ["sha256:$hash"] }
controlPlane:
  localAPIEndpoint: { advertiseAddress: $(node_address "$1"), bindPort: 6443 }
  certificateKey: $CERTIFICATE_KEY
$(node_registration "$1")
YAML
}

kubeadm_join() {
    write_patches "$1"
    join_configuration "$1" >"$(node_root "$1")/root/kubeadm.yaml"
    in_node "$1" systemctl start containerd.service
    in_node "$1" "${KUBEADM[@]}" join --config /root/kubeadm.yaml
    wait_for 60 api_ready "$1"
}

api_ready() { [[ $(curl -sk -m 2 "https://$(node_address "$1"):6443/readyz" || true) == ok ]]; }

kubectl() {
    "$IRSAD_TEST_KUBERNETES/kubectl" --kubeconfig "$(node_root n1)/etc/kubernetes/admin.conf" --request-timeout=20s "$@"
}

kubectl_at() { kubectl --server "https://$(node_address "$1"):6443" "${@:2}"; }

api_server_pid() { in_node "$1" pgrep -x kube-apiserver; }

api_server_flags() {
    local pid
    pid=$(api_server_pid "$1")
    in_node "$1" cat "/proc/$pid/cmdline" | tr '\0' '\n' | sed -n "s/^--$2=//p"
}

pod_of_account() {
    cat <<YAML
apiVersion: v1
kind: Pod
metadata: { name: $2 }
spec:
  nodeName: $1
  serviceAccountName: $3
  hostNetwork: true
  tolerations: [ { operator: Exists } ]
  terminationGracePeriodSeconds: 0
  containers:
  - name: pause
    image: images.test/pause:node
    imagePullPolicy: Never
YAML
}

pod_manifest() {
    pod_of_account "$1" "$2" default
    cat <<YAML
    volumeMounts: [ { name: aws-iam-token, mountPath: /var/run/secrets/eks.amazonaws.com/serviceaccount, readOnly: true } ]
  volumes:
  - name: aws-iam-token
    projected: { sources: [ { serviceAccountToken: { audience: $AUDIENCE, expirationSeconds: 86400, path: token } } ] }
YAML
}

pod_runs() { [[ $(kubectl get pod "$1" -o 'jsonpath={.status.phase}') == Running ]]; }
has_default_service_account() { kubectl get serviceaccount default >/dev/null; }

pod_token() {
    # Made by kube-controller-manager, which starts anew with the API server.
    wait_for 90 has_default_service_account
    pod_manifest "$1" "$2" | kubectl create -f - >&2
    wait_for 60 pod_runs "$2"
    pod_aws_token "$1" "$2"
}

# kubelet mounts it before it starts the pod, which sees the same file.
pod_aws_token() {
    local uid
    uid=$(kubectl get pod "$2" -o 'jsonpath={.metadata.uid}')
    in_node "$1" cat "/var/lib/kubelet/pods/$uid/volumes/kubernetes.io~projected/aws-iam-token/token"
}

pod_own_token() {
    local uid
    uid=$(kubectl get pod "$2" -o 'jsonpath={.metadata.uid}')
    in_node "$1" sh -c "cat /var/lib/kubelet/pods/$uid/volumes/kubernetes.io~projected/kube-api-access-*/token"
}

signing_kid() {
    local token
    # There may be no answer just now.
    token=$(kubectl_at "$1" create token default) || return 1
    "$IRSAD_TEST_PYTHON" -c 'import jwt, sys; print(jwt.get_unverified_header(sys.argv[1])["kid"])' "$token"
}

persisted_issuers() {
    kubectl -n kube-system get configmap kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}' |
        sed -n '/- name: service-account-issuer$/{n;s/^ *value: //p}' | xargs
}

claim() {
    "$IRSAD_TEST_PYTHON" -c '
import jwt, sys
print(jwt.decode(sys.argv[1], options={"verify_signature": False})[sys.argv[2]])' "$1" "$2"
}
