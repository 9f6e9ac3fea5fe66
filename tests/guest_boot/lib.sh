# What the guest-boot tests share: running a machine with a time limit, judging it, and leaving nothing behind.
#
# Each test script prints one line per case: `ok NAME (detail)`, `FAIL NAME: why` or `skip NAME: why`. tests/run counts
# them. A case that fails leaves its console and errors in build/guest_boot/.
# Every machine that a test starts carries PANGEA_TEST_MARK in its environment. That is how leftovers are found, whatever they
# are called and whoever their parent has become, and why nothing else is ever touched.
# shellcheck shell=bash
set -uo pipefail
GUEST_BOOT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=images/lib.sh
source "$GUEST_BOOT_DIR/../../images/lib.sh"

RUNNER=${RUNNER:-pangea}
KEEP_DIR=$BUILD_DIR/guest_boot/$SCRIPT_NAME
mark=pangea-test-$$-$RANDOM
work=$(mktemp -d "/tmp/$mark.XXXX")
namespaces=()
export TMPDIR=$work/tmp XDG_RUNTIME_DIR=$work/runtime
mkdir -p "$TMPDIR" "$XDG_RUNTIME_DIR" "$KEEP_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
rm -f "${KEEP_DIR:?}"/*

ok() { printf 'ok %s%s\n' "$1" "${2:+ ($2)}"; }
skip() { printf 'skip %s: %s\n' "$1" "$2"; }
# fail NAME WHY: keeps what the machine said.
fail() {
  printf 'FAIL %s: %s\n' "$1" "$2"
  local file
  for file in console errors stats; do
    [[ -s $work/$file ]] && cp "$work/$file" "$KEEP_DIR/${1//\//_}.$file"
  done
  if [[ -s $work/errors ]]; then sed 's/^/    | /' "$work/errors" | head -n 12; fi
  if [[ -s $work/console ]]; then tail -n 3 "$work/console" | tr -d '\r' | sed 's/^/    > /'; fi
  return 0
}

# marked_processes: the processes that this test has started as machines and that still run.
marked_processes() {
  local entry pid
  for entry in /proc/[0-9]*/environ; do
    pid=${entry#/proc/}
    pid=${pid%/environ}
    grep -aqzx "PANGEA_TEST_MARK=$mark" "$entry" 2>/dev/null || continue
    # A finished child that waits to be reaped is no leftover.
    [[ -e /proc/$pid/exe ]] && printf '%s\n' "$pid"
  done
}

end_marked_processes() {
  local pid
  for pid in $(marked_processes); do kill -9 "$pid" 2>/dev/null; done
}

finish() {
  end_marked_processes
  ((${#namespaces[@]} == 0)) || remove_namespaces
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# make_secrets FILE...: a secret each, as -secret takes it.
make_secrets() {
  local file
  for file in "$@"; do
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file" && chmod 600 "$file" || return 1
  done
}

now_ms() {
  local t=${EPOCHREALTIME/[.,]/}
  printf '%s' $((t / 1000))
}

# with_mark COMMAND...: becomes COMMAND, marked as ours.
with_mark() { exec env "PANGEA_TEST_MARK=$mark" "$@"; }

# start_machine COMMAND...: in the background, in a directory of its own; sets `machine_pid`.
start_machine() {
  rm -rf "$work/place" && mkdir "$work/place"
  rm -f "$work/stats"
  : >"$work/console"
  : >"$work/errors"
  started_ms=$(now_ms)
  (cd "$work/place" && with_mark "$@") </dev/null >"$work/console" 2>>"$work/errors" &
  machine_pid=$!
}

# How long a guest may take to come up, and to do what a short test asks of it (seconds).
limit_s=${PANGEA_BOOT_LIMIT:-600}
# How long a process may take to listen, to answer, to notice a loss, to end and be gone (seconds). An idle computer needs
# a part of that for any of them; one whose processors are taken away must not fail for it, and each case says how long
# it took.
patience_s=${PANGEA_PATIENCE:-60}

# await_machine SECONDS: sets `status` (124 when it had to be ended) and `took_ms`. A guest whose console has said nothing
# for PANGEA_STALL_LIMIT seconds hangs; one that speaks is slow, and SECONDS are for that.
stall_limit_s=${PANGEA_STALL_LIMIT:-180}
await_machine() {
  local now limit_ms said=0 size said_ms reported=0
  said_ms=$(now_ms)
  limit_ms=$((said_ms + $1 * 1000))
  status=
  while kill -0 "$machine_pid" 2>/dev/null; do
    now=$(now_ms)
    size=$(stat -c %s "$work/console" 2>/dev/null)
    ((${size:-0} == said)) || { said=$size && said_ms=$now && reported=0; }
    # A request between nodes that nobody answers ends the machine after a minute: look before that.
    if ((reported == 0 && now > said_ms + 40000)) && [[ $RUNNER == pangea && ${said:-0} -gt 0 ]]; then
      reported=1
      cp "$work/errors" "$work/errors.before"
      report_machine
      sleep 5 # over slow links the answers come late, and must not count as complaints
      cp "$work/errors" "$KEEP_DIR/silent-for-40-s.$(date +%H%M%S)"
      cp "$work/errors.before" "$work/errors"
    fi
    if ((now > limit_ms || now > said_ms + stall_limit_s * 1000)); then
      report_machine
      end_marked_processes
      wait "$machine_pid" 2>/dev/null
      status=124
      break
    fi
    sleep 0.05
  done
  if [[ -z $status ]]; then
    wait "$machine_pid"
    status=$?
  fi
  took_ms=$(($(now_ms) - started_ms))
}

# Children of the process that was started, in order of their birth: the other nodes.
node_children() { ps -o pid= --ppid "$machine_pid" --sort=start_time | tr -d ' '; }

# machine_exists: its nodes have joined, and the first one has made its vCPUs.
machine_exists() { grep -qs '^vcpu' "/proc/$machine_pid"/task/*/comm; }

# report_machine: lets a machine that will be ended say twice, into `errors`, what its vCPUs do and wait for.
report_machine() {
  local i pid
  [[ $RUNNER == pangea ]] || return 0
  for i in 1 2; do
    echo "-- report $i" >>"$work/errors"
    for pid in $(marked_processes); do
      # Whoever else is marked (a shell, script(1)) would die of the signal.
      [[ $(readlink "/proc/$pid/exe") == "$(realpath "$PANGEA")" ]] && kill -USR1 "$pid" 2>/dev/null
    done
    sleep 1.5
  done
}

# run_machine SECONDS COMMAND...
run_machine() {
  start_machine "${@:2}"
  await_machine "$1"
}

# leftovers: says what the machine has left behind when it has had time to go; nothing when it is clean.
leftovers() {
  local end_ms=$(($(now_ms) + patience_s * 1000)) pids files
  while :; do
    pids=$(marked_processes | tr '\n' ' ')
    [[ -z $pids ]] && break
    if (($(now_ms) > end_ms)); then
      printf 'processes %s' "$pids"
      end_marked_processes
      return
    fi
    sleep 0.05
  done
  files=$(find "$TMPDIR" "$XDG_RUNTIME_DIR" "$work/place" -mindepth 1 2>/dev/null | head -n 3 | tr '\n' ' ')
  files+=$(find /dev/shm -maxdepth 1 -newer "$work/place" -name '*pangea*' 2>/dev/null | head -n 3 | tr '\n' ' ')
  if [[ -n $files ]]; then
    printf 'files %s' "$files"
    rm -rf "${TMPDIR:?}"/* "${XDG_RUNTIME_DIR:?}"/*
  fi
}

# linux_command NODES SMP MIB KERNEL WORDS [OPTION...]: into the array `machine`.
linux_command() {
  machine_command "$1" "$2" "$3" -kernel "$(guest_kernel "$4")" -initrd "$(guest_initrd)" \
    -append "console=ttyS0 quiet $5" -nographic -no-reboot "${@:6}"
}

# console_says PATTERN: a whole line of the console matches.
console_says() { tr -d '\r' <"$work/console" | grep -aqxE -- "$1"; }

# judge_boot NAME NODES SMP [PATTERN...]: the guest came up as asked for, proved its point and powered off.
judge_boot() {
  local name=$1 nodes=$2 smp=$3 online=0 pattern rest
  ((nodes == 1)) || online=0-$((nodes - 1))
  ((status == 0)) || { fail "$name" "exit status $status after $took_ms ms" && return; }
  for pattern in "guest: nproc $smp" "guest: nodes online $online" "guest: exit 0" "${@:4}"; do
    console_says "$pattern" || { fail "$name" "the guest did not say '$pattern'" && return; }
  done
  if [[ -s $work/errors && $RUNNER == pangea ]]; then fail "$name" "something on stderr" && return; fi
  rest=$(leftovers)
  [[ -z $rest ]] || { fail "$name" "left behind: $rest" && return; }
  ok "$name" "$took_ms ms"
}

# namespaces_possible: root, and the kernel here lets us.
namespaces_possible() {
  ((EUID == 0)) && command -v ip >/dev/null && ip netns add "$mark" 2>/dev/null && ip netns delete "$mark"
}
