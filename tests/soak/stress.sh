#!/bin/busybox sh
# In the guest: every class of stress-ng for its share of $1 seconds, results verified.
classes="cpu vm futex mmap fork signal pipe switch memory"
share=$(($1 / 9))
busybox mkdir -p /tmp /var/tmp /run
status=0
for class in $classes; do
  case $class in
    vm) words="--vm 2 --vm-bytes 48M --vm-method all" ;;
    mmap) words="--mmap 2 --mmap-bytes 32M" ;;
    fork) words="--fork 2 --vfork 1" ;;
    pipe) words="--pipe 2 --sigpipe 1" ;;
    memory) words="--memthrash 2 --shm 1 --mcontend 2" ;;
    *) words="--$class 2" ;;
  esac
  echo "soak: $class for $share s"
  # shellcheck disable=SC2086
  if /usr/bin/stress-ng $words --verify --timeout "$share" --metrics-brief --temp-path /tmp --oomable --no-rand-seed 2>&1; then
    echo "soak: $class ok"
  else
    echo "soak: $class FAILED with status $?"
    status=1
  fi
done
exit $status
