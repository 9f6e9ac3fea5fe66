# What all scripts share: messages, places, and how a machine is started. Sourced, not run.
# shellcheck shell=bash

IMAGES_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT_DIR=$(dirname "$IMAGES_DIR")
CACHE_DIR=${PANGEA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pangea/images}
BUILD_DIR=${PANGEA_BUILD:-$ROOT_DIR/build}
PANGEA=${PANGEA:-$BUILD_DIR/emu/machine/pangea}
SCRIPT_NAME=$(basename "$0")

log() { printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2; }
die() {
  log "$*"
  exit 2
}

# shellcheck source=images/packages.sh
source "$IMAGES_DIR/packages.sh"

# guest_kernel [cloud|generic], guest_initrd: the files that images/build-guest has made.
guest_kernel() { printf '%s/vmlinuz-%s' "$CACHE_DIR" "${1:-cloud}"; }
guest_initrd() { printf '%s/initramfs.gz' "$CACHE_DIR"; }

# build_pangea: configures and compiles build/ (quick when nothing has changed).
build_pangea() {
  if [[ ! -f "$BUILD_DIR/build.ninja" ]]; then
    meson setup "$BUILD_DIR" "$ROOT_DIR" >&2 || die "meson setup failed: see above"
  fi
  ninja -C "$BUILD_DIR" "$@" >&2 || die "the build failed: see above"
}

# QEMU's words for a NUMA machine of N nodes, into the array `numa`.
qemu_numa() {
  local nodes=$1 smp=$2 mib=$3 i first last share
  numa=()
  ((nodes > 1)) || return 0
  for ((i = 0; i < nodes; ++i)); do
    share=$((mib / nodes + (i == 0 ? mib % nodes : 0)))
    first=$((smp * i / nodes)) last=$((smp * (i + 1) / nodes - 1))
    numa+=(-object "memory-backend-ram,id=ram$i,size=${share}M")
    if ((last > first)); then
      numa+=(-numa "node,nodeid=$i,memdev=ram$i,cpus=$first-$last")
    elif ((last == first)); then
      numa+=(-numa "node,nodeid=$i,memdev=ram$i,cpus=$first")
    else
      numa+=(-numa "node,nodeid=$i,memdev=ram$i")
    fi
  done
}

# machine_command NODES SMP MIB [OPTION...]: the command line of a machine, into the array `machine`. RUNNER says which:
# `pangea` (the default), or `qemu`, a stand-in with the same options that keeps all nodes in one process.
# With endpoints in the array `endpoints`, the other nodes are those that wait there instead of virtual ones.
machine_command() {
  local nodes=$1 smp=$2 mib=$3
  shift 3
  case ${RUNNER:-pangea} in
    pangea)
      local places=(-nodes "$nodes") endpoint
      if [[ -v endpoints ]] && ((${#endpoints[@]} > 0)); then
        places=()
        for endpoint in "${endpoints[@]}"; do places+=(-node "$endpoint"); done
      fi
      machine=("$PANGEA" run "${places[@]}" -smp "$smp" -m "${mib}M" "$@")
      ;;
    qemu)
      local arguments=() numa
      while (($# > 0)); do
        case $1 in
          -stats | -node) shift ;;  # QEMU has no such options
          *) arguments+=("$1") ;;
        esac
        shift
      done
      qemu_numa "$nodes" "$smp" "$mib"
      machine=(qemu-system-x86_64 -accel "tcg,thread=multi" -cpu max -no-user-config -vga none -nic none -smp "$smp"
        -m "${mib}M" "${numa[@]}" "${arguments[@]}")
      ;;
    *) die "RUNNER is '${RUNNER}': it can be pangea or qemu" ;;
  esac
}

# make_namespaces COUNT: network namespaces pangea-PID-0 .. COUNT-1, each with its own address on one bridge that lives
# in a namespace of its own, so that nothing of the host's network is touched. Names go to the array `namespaces`.
make_namespaces() {
  local count=$1 i hub=pangea-$$-hub
  ((EUID == 0)) || die "network namespaces need root: run with sudo, or without --netns"
  namespaces=("$hub")
  ip netns add "$hub" || die "cannot make network namespaces here"
  ip -n "$hub" link add bridge0 type bridge
  ip -n "$hub" link set bridge0 up
  for ((i = 0; i < count; ++i)); do
    ip netns add "pangea-$$-$i"
    namespaces+=("pangea-$$-$i")
    ip -n "$hub" link add "port$i" type veth peer name eth0 netns "pangea-$$-$i"
    ip -n "$hub" link set "port$i" master bridge0 up
    ip -n "pangea-$$-$i" address add "$(namespace_address "$i")/24" dev eth0
    ip -n "pangea-$$-$i" link set eth0 up
    ip -n "pangea-$$-$i" link set lo up
  done
}

namespace_address() { printf '10.77.0.%d' "$(($1 + 1))"; }
in_namespace() { ip netns exec "pangea-$$-$1" "${@:2}"; }

remove_namespaces() {
  local name
  for name in "${namespaces[@]}"; do ip netns delete "$name" 2>/dev/null || true; done
  namespaces=()
}

# listening PORT: someone listens on TCP PORT (asked of the kernel, so that no connection disturbs the listener).
listening() { grep -qi "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$1") [0-9A-F:]* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; }

# free_ports COUNT: sets `port` to the first of COUNT ports in a row that nobody on this computer uses. They lie below those
# that Linux gives to connections, which come and go (net.ipv4.ip_local_port_range: 32768 on).
free_ports() {
  local taken i tries
  taken=$(sed -nE 's/^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) .*/\1/p' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  for ((tries = 0; tries < 100; ++tries)); do
    port=$((20000 + RANDOM % (12000 - $1)))
    for ((i = 0; i < $1; ++i)); do
      ! grep -qx "$(printf '%04X' $((port + i)))" <<<"$taken" || continue 2
    done
    return 0
  done
  die "cannot find $1 free ports in a row from 20000 to 32000"
}

# wait_for SECONDS COMMAND...: repeats COMMAND until it succeeds; fails when the time is over.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

# make_keys DIR NAME...: a key DIR/NAME.key for each computer, and DIR/peers, the list of them all.
make_keys() {
  local dir=$1 name
  for name in "${@:2}"; do
    "$PANGEA" keygen -key "$dir/$name.key" -name "$name" >>"$dir/peers" || return 1
  done
}
