# What a test says and how it waits. Sourced in a bench.
#
#   ok SENTENCE                         the promise in SENTENCE holds
#   fail SENTENCE                       ends the test
#   equal WHAT EXPECTED ACTUAL          fails unless both are the same
#   contains WHAT PATTERN TEXT          fails unless TEXT has a line that matches the extended regular expression
#   wait_for SECONDS COMMAND...         until COMMAND succeeds; fails after SECONDS and says which
#   stays SECONDS COMMAND...            fails if COMMAND fails once within SECONDS

ok() { echo "ok $*" >&3; }

fail() {
    echo "not ok: $*" >&3
    exit 1
}

equal() { [[ $2 == "$3" ]] || fail "$1 is '$3', not '$2'"; }

contains() { grep -Eq -e "$2" <<<"$3" || fail "$1 has no '$2', it is: $3"; }

wait_for() {
    local until=$((SECONDS + $1))
    shift
    # Quiet in the trace: a line for every try would hide the rest.
    { local traced=$-; set +x; } 2>/dev/null
    until "$@"; do
        ((SECONDS < until)) || fail "waited in vain for: $*"
        # Most of what is asked starts a process in a node; several tests share few cores.
        sleep 0.4
    done
    [[ $traced != *x* ]] || set -x
}

stays() {
    local until=$((SECONDS + $1))
    shift
    while ((SECONDS < until)); do
        "$@" || fail "does not stay so: $*"
        sleep 0.5
    done
}
