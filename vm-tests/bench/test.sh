# First line of every test: `. "$(dirname "$0")/../bench/test.sh"`.
#
# Runs the test in a bench of its own, named as its folder, and gives it the functions of the files beside this one; the head of
# each says which. What the test prints goes to its log; `ok` and `fail` (checks.sh) also reach whoever called it. A command that
# fails ends the test, and the log then shows which.
set -Eeuo pipefail
shopt -s inherit_errexit

if [[ -z ${IRSAD_BENCH-} ]]; then
    exec "${BASH_SOURCE[0]%/*}/enter" "$(basename "$(dirname "$(realpath "$0")")")" "$(realpath "$0")" "$@"
fi

# Standard output is for `ok` lines, and standard error may be asked what it says: the trace goes its own way.
exec 3>&1 >"$IRSAD_LOGS/log" 2>&1 4>&1
BASH_XTRACEFD=4
PS4='+ $SECONDS s ${BASH_SOURCE##*/}:$LINENO: '
trap 'echo "not ok: line ${BASH_LINENO[-2]:-$LINENO} of ${0##*/}: ${FUNCNAME[0]:-} $BASH_COMMAND" >&3' ERR
. "${BASH_SOURCE[0]%/*}/checks.sh"
. "${BASH_SOURCE[0]%/*}/node.sh"
. "${BASH_SOURCE[0]%/*}/kubernetes.sh"
. "${BASH_SOURCE[0]%/*}/aws.sh"
. "${BASH_SOURCE[0]%/*}/irsad.sh"
. "${BASH_SOURCE[0]%/*}/pods.sh"
. "${BASH_SOURCE[0]%/*}/witness.sh"
set -x

# A kubeadm cluster of COUNT control-plane nodes in the AWS of this bench. Each LINE is as kubeadm_init's.
cluster_of() {
    local count=$1 node
    aws_start
    for ((node = 1; node <= count; node++)); do
        node_create "n$node" "${NODE_SIZE-}"
        node_trusts_aws "n$node"
        node_boot "n$node"
    done
    kubeadm_init n1 "${@:2}"
    for ((node = 2; node <= count; node++)); do kubeadm_join "n$node"; done
}

# Where most tests begin.
cluster_of_one() { cluster_of 1 "$@"; }

# The same, then the package with the README's configuration and each LINE of it, until irsad is content. The witness watches from
# before the package on.
adopted_cluster() {
    cluster_of_one
    witness_start n1
    irsad_install n1
    irsad_configure n1 "$@"
    irsad_enable n1
    wait_for 120 irsad_says n1 '^ok: kube-apiserver signs as '
}
