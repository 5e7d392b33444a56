# Nodes of a bench: systemd-nspawn containers with the cached Debian root below and an own layer above. Sourced in a bench.
#
#   node_create NAME [SIZE]      makes node n1, n2 or n3, not booted. SIZE (as 300M) limits its own layer, a file system in memory
#   node_boot NAME               boots it and waits until systemd takes orders
#   node_start NAME [SIZE]       both
#   node_stop NAME               orderly power-off
#   node_reboot NAME             orderly reboot; returns when systemd takes orders again
#   node_power_off NAME          the power goes: PID 1 and everything else is killed at once. node_boot boots it again
#   in_node NAME COMMAND...      runs a command in it, as root, at most 300 s; standard input goes through
#   node_root NAME               prints the folder of its root file system: files may be written there before it boots
#   node_address NAME            prints its address
#   nodes                        prints the names of all nodes
#   nodes_collect_logs FOLDER    journal, container logs, /etc/kubernetes and /var/lib/irsad of every node
#
# Whatever a node mounts, starts or listens to ends with the bench (see enter).

# CAP_SYS_RESOURCE or not, v1 or v2: what systemd-nspawn needs so that kubelet and runc work in it.
readonly NSPAWN=(
    systemd-nspawn --boot --register=no --keep-unit --console=read-only --capability=all --bind=/dev/kmsg --link-journal=no
)
readonly NODE_ENVIRONMENT=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb)

node_root() { echo "$IRSAD_BENCH/$1/root"; }
node_address() { echo "10.77.1.1${1#n}"; }

nodes() {
    local folder
    for folder in "$IRSAD_BENCH"/n?; do
        [[ ! -d $folder ]] || basename "$folder"
    done
}

# PID 1 of the node, as the bench sees it.
node_leader() { pgrep -P "$(cat "$IRSAD_BENCH/$1/supervisor")"; }

in_node() {
    local leader
    leader=$(node_leader "$1") || { echo "node $1 is not up" >&2 && return 1; }
    timeout --foreground 300 nsenter --target "$leader" --all env -i "${NODE_ENVIRONMENT[@]}" "${@:2}"
}

# The interface stays while the node is down, so that no test meets a network that comes later than the node.
plug_in() {
    local node=$1
    ip netns add "$node"
    ip link add "$node" type veth peer name host0 netns "$node"
    ip link set "$node" master br0 up
    ip -n "$node" link set lo up
    ip -n "$node" address add "$(node_address "$node")/24" dev host0
    ip -n "$node" link set host0 up
    ip -n "$node" route add default via 10.77.1.1
    nsenter --net="/run/netns/$node" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1
}

# What may be shared is hard-linked; containerd's databases are not.
copy_images() {
    cp -al "$IRSAD_VM_IMAGES/store" "$1"
    local database
    while IFS= read -r database; do
        cp --remove-destination "$IRSAD_VM_IMAGES/store/$database" "$1/$database"
    done < <(cd "$IRSAD_VM_IMAGES/store" && find . -name '*.db')
}

node_create() {
    local node=$1 size=${2-} folder=$IRSAD_BENCH/$1 root
    mkdir -p "$folder"/{layer,root,kubelet,etcd}
    mount -t tmpfs -o "mode=755${size:+,size=$size}" irsad-node "$folder/layer"
    mkdir "$folder/layer"/{upper,work}
    root=$folder/root
    mount -t overlay -o "lowerdir=$IRSAD_VM_ROOT,upperdir=$folder/layer/upper,workdir=$folder/layer/work" overlay "$root"
    cp -a --no-preserve=ownership "${BASH_SOURCE[0]%/*}/../root/." "$root/"
    echo "$node" >"$root/etc/hostname"
    cp "$IRSAD_BENCH/hosts" "$root/etc/hosts"
    mkdir -p "$IRSAD_DISK/$node" "$root/var/log/journal"
    copy_images "$IRSAD_DISK/$node/containerd"
    plug_in "$node"
}

# Own cgroups for one boot. What the last one left would cost kubelet seconds at its start.
enter_cgroups() {
    local controller folder
    for controller in memory cpu cpuacct cpuset blkio devices freezer pids systemd unified; do
        folder=/sys/fs/cgroup/$controller/irsad-vm/$IRSAD_BENCH_NAME/$1
        [[ ! -d $folder ]] || find "$folder" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
        mkdir -p "$folder"
        echo "$BASHPID" >"$folder/cgroup.procs"
    done
}

# Runs the node until it is stopped; systemd-nspawn ends with 133 when a reboot was asked for inside.
supervise() {
    local node=$1 folder=$IRSAD_BENCH/$1 code=133 program programs=()
    for program in kubeadm kubelet kubectl etcdctl; do
        programs+=("--bind-ro=$IRSAD_TEST_KUBERNETES/$program:/usr/bin/$program")
    done
    while [[ $code == 133 ]]; do
        code=0
        (
            enter_cgroups "$node"
            echo "$BASHPID" >"$folder/supervisor"
            export SYSTEMD_SECCOMP=0
            exec setsid "${NSPAWN[@]}" --directory="$folder/root" --machine="$IRSAD_BENCH_NAME-$node" --hostname="$node" \
                --network-namespace-path="/run/netns/$node" "${programs[@]}" \
                --bind="$IRSAD_DISK/$node/containerd:/var/lib/containerd" \
                --bind="$folder/kubelet:/var/lib/kubelet" --bind="$folder/etcd:/var/lib/etcd"
        ) </dev/null >>"$folder/console.log" 2>&1 || code=$?
        echo "systemd-nspawn ended with $code" >>"$folder/console.log"
        : >"$folder/supervisor"
    done
}

# A boot is done when systemd takes orders; kubelet and irsad may still be starting.
node_takes_orders() { in_node "$1" systemctl is-active -q basic.target 2>/dev/null; }

node_boot() {
    : >"$IRSAD_BENCH/$1/supervisor"
    # Nobody's child: a test that waits for its own children does not wait for nodes.
    (supervise "$1" &)
    wait_for 30 node_takes_orders "$1"
}

node_start() {
    node_create "$@"
    node_boot "$1"
}

is_down() { [[ ! -s $IRSAD_BENCH/$1/supervisor ]]; }

node_stop() {
    in_node "$1" systemctl poweroff
    wait_for 60 is_down "$1"
}

has_new_supervisor() { [[ -s $IRSAD_BENCH/$1/supervisor && $(cat "$IRSAD_BENCH/$1/supervisor") != "$2" ]]; }

# Nothing enters the node before the old boot is over: systemd stops all processes at the end of one, a stopped nsenter reaps
# nobody, and the kernel waits for it.
node_reboot() {
    local before
    before=$(cat "$IRSAD_BENCH/$1/supervisor")
    in_node "$1" systemctl reboot
    wait_for 60 has_new_supervisor "$1" "$before"
    wait_for 30 node_takes_orders "$1"
}

node_power_off() {
    kill -KILL "$(node_leader "$1")"
    wait_for 30 is_down "$1"
}

nodes_collect_logs() {
    local node root
    for node in $(nodes); do
        mkdir -p "$1/$node"
        root=$(node_root "$node")
        cp "$IRSAD_BENCH/$node/console.log" "$1/$node/" || true
        journalctl --directory="$root/var/log/journal" --no-hostname -o short-precise >"$1/$node/journal" 2>/dev/null || true
        cp -r "$root/var/log/pods" "$1/$node/" 2>/dev/null || true
        cp -r "$root/etc/kubernetes" "$root/var/lib/irsad" "$1/$node/" 2>/dev/null || true
        # A log folder is handed around; signing keys are not.
        find "$1/$node" \( -name '*.key' -o -name '*.conf' \) -delete
    done
}
