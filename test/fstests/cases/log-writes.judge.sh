# The second half of log-writes, on the machine itself: what User Mode Linux recorded is replayed flush by flush.
. "$(dirname "$0")/../lib.sh"
node "$HERE/replay-flushes.mjs" "$KEEP/base" "$KEEP/log" "$SCRATCH/state" "$KEEP/list" 32 || fail "a state at a flush is not right"
