# User-data on the nodes of a bench. Sourced in a bench.
#
#   image_install NODE               installs the package under test with cloud-init/image-build, into a node that is not booted
#   seed NODE < USER-DATA            gives the node its user-data (NoCloud)
#   user_data NODE FILE < KUBEADM    gives it FILE of cloud-init/, with the names of this bench, and
#                                    with KUBEADM in place of the kubeadm configuration that is the reader's to change
#   machine NODE FILE < KUBEADM      all of it: a machine of that image, with that user-data, switched on
#   cloud_init_ends NODE             waits until cloud-init has ended; fails unless it says that all went well
#   watch_starts                     counts every kube-apiserver that runs from now on; to be put into the background
#   starts NODE                      prints how many have run in NODE since
#   boot_is_well NODE                waits until no job of systemd is left; fails if a unit has failed or an order is circular
#   without_preflight                filter for kubeadm configurations: what a container on the bench cannot have, as the file's own settings

readonly CLOUD_INIT=$(realpath "${BASH_SOURCE[0]%/*}/../../cloud-init")

image_install() {
    local root
    root=$(node_root "$1")
    "$CLOUD_INIT/image-build" "$(package_under_test)" "$root"
    # What the machines of a bench are not: with a network to configure, a disk to grow, locales to make, keys to serve.
    cat >"$root/etc/cloud/cloud.cfg.d/99-bench.cfg" <<'YAML'
datasource_list: [NoCloud]
network: { config: disabled }
growpart: { mode: "off" }
resize_rootfs: false
locale: C.UTF-8
ssh_deletekeys: false
ssh_genkeytypes: []
YAML
}

seed() {
    local seed
    seed=$(node_root "$1")/var/lib/cloud/seed/nocloud
    mkdir -p "$seed"
    printf 'instance-id: i-%s\nlocal-hostname: %s\n' "$1" "$1" >"$seed/meta-data"
    cat >"$seed/user-data"
}

user_data() {
    "$IRSAD_TEST_PYTHON" -c '
import sys, yaml
path, bucket = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    data = yaml.safe_load(file)
files = {file["path"]: file for file in data["write_files"]}
irsad = files["/etc/irsad/irsad.yaml"]
irsad["content"] = irsad["content"].replace("prod-1-oidc", bucket).replace("prod-1", "vm-test")
files["/etc/kubernetes/kubeadm.yaml"]["content"] = sys.stdin.read()
print("#cloud-config\n" + yaml.safe_dump(data))' "$CLOUD_INIT/$2" "$AWS_BUCKET" |
        seed "$1"
}

machine() {
    node_create "$1"
    node_trusts_aws "$1"
    image_install "$1"
    without_preflight | user_data "$1" "$2"
    node_boot "$1"
}

without_preflight() {
    sed -e '/^nodeRegistration:/a\  ignorePreflightErrors: [SystemVerification]' \
        -e '/^kind: InitConfiguration/a\skipPhases: [addon]'
}

cloud_init_ended() { [[ $(in_node "$1" cloud-init status) =~ status:\ (done|error) ]]; }

cloud_init_ends() {
    wait_for 120 cloud_init_ended "$1"
    equal "cloud-init status of $1" 'status: done' "$(in_node "$1" cloud-init status)"
}

# By control group, pid and start time: pids come back, and nodes share one kernel.
watch_starts() {
    { set +x; } 2>/dev/null
    local pid node
    while sleep 0.1; do
        for pid in $(pgrep -x kube-apiserver || true); do
            node=$(grep -om1 "irsad-vm/$IRSAD_BENCH_NAME/n." "/proc/$pid/cgroup" 2>/dev/null) || continue
            echo "${node##*/} $(cut -d' ' -f1,22 "/proc/$pid/stat" 2>/dev/null || true)"
        done >>"$IRSAD_BENCH/seen"
        sort -u -o "$IRSAD_BENCH/seen" "$IRSAD_BENCH/seen"
    done
}

starts() { sort -u "$IRSAD_BENCH/seen" | grep -Ec "^$1 [0-9]" || true; }

boot_is_over() { [[ $(in_node "$1" systemctl list-jobs) == 'No jobs running.' ]]; }

boot_is_well() {
    local cycles
    wait_for 60 boot_is_over "$1"
    equal "list of failed units of $1" '' "$(in_node "$1" systemctl list-units --failed --plain --no-legend)"
    cycles=$(in_node "$1" journalctl --boot --no-pager | grep -c 'ordering cycle' || true)
    equal "number of ordering cycles of $1" 0 "$cycles"
}
