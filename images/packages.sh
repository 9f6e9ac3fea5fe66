# The Debian packages that Pangea needs, for all scripts; sourced, not run.
# shellcheck shell=bash disable=SC2034

# To compile it (meson.build is the authority; python3 also runs the scripts' reports).
BUILD_PACKAGES=(g++ meson ninja-build pkg-config ccache python3 ca-certificates
  libcapstone-dev libasmjit-dev libzmq3-dev cppzmq-dev libprotobuf-dev protobuf-compiler
  libseccomp-dev libgtest-dev libgmock-dev libbenchmark-dev libfmt-dev libcli11-dev nlohmann-json3-dev
  acpica-tools)

# To make a guest: kernel and busybox are taken out of their packages without installing those.
GUEST_PACKAGES=(gcc libc6-dev cpio gzip)

# To run it between two network namespaces.
NETNS_PACKAGES=(iproute2)

# To test, to fuzz with coverage, and to measure against QEMU.
TEST_PACKAGES=(iproute2 procps spin)
FUZZ_PACKAGES=(clang llvm libclang-rt-14-dev)
QEMU_PACKAGES=(qemu-system-x86 seabios)

# ensure_packages PACKAGE...: installs what is missing of them; ends the script with one line when it cannot.
ensure_packages() {
  local package missing=()
  for package in "$@"; do
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return 0
  ((EUID == 0)) || die "missing packages and not root: run once: sudo apt-get install ${missing[*]}"
  log "installing ${missing[*]}"
  refresh_package_lists
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install ${missing[*]}: see its messages above"
}

# refresh_package_lists: apt-get update, once in a script's life.
refresh_package_lists() {
  [[ -n "${package_lists_fresh:-}" ]] && return 0
  apt-get update -qq >&2 || die "apt-get update failed: is the network up?"
  package_lists_fresh=1
}

# fetch_package PACKAGE DIR: unpacks PACKAGE under DIR without installing it.
fetch_package() {
  local package=$1 dir=$2 holder
  if ! apt-cache show "$package" >/dev/null 2>&1; then
    ((EUID == 0)) || die "package lists are empty and not root: run once: sudo apt-get update"
    refresh_package_lists
  fi
  holder=$(mktemp -d)
  # The download helper may not write to root's directories; as root, let it stay root.
  local options=()
  ((EUID == 0)) && options=(-o APT::Sandbox::User=root)
  if ! (cd "$holder" && apt-get -qq "${options[@]}" download "$package" >&2); then
    ((EUID == 0)) || { rm -rf "$holder" && die "cannot download $package: sudo apt-get update may help"; }
    # Old lists name versions that the archive no longer has.
    refresh_package_lists
    (cd "$holder" && apt-get -qq "${options[@]}" download "$package" >&2) ||
      { rm -rf "$holder" && die "cannot download $package"; }
  fi
  mkdir -p "$dir"
  dpkg-deb -x "$holder"/*.deb "$dir" || die "cannot unpack $package"
  rm -rf "$holder"
}

# missing_libraries PROGRAM ROOT: names of the shared libraries that it or one of them needs and ROOT does not have.
# program_libraries: paths in ROOT of those that it has.
missing_libraries() { walk_libraries "$@" | sed -n 's/^missing //p' | sort -u; }
program_libraries() { walk_libraries "$@" | sed -n 's/^found //p' | sort -u; }
walk_libraries() {
  local root=$2 queue=("$1") file name path
  local -A seen=()
  while ((${#queue[@]} > 0)); do
    file=${queue[0]} queue=("${queue[@]:1}")
    while read -r name; do
      [[ -z ${seen[$name]:-} ]] || continue
      seen[$name]=1
      path=$(find "$root/lib/x86_64-linux-gnu" "$root/usr/lib/x86_64-linux-gnu" -maxdepth 1 -name "$name" 2>/dev/null | head -n 1)
      if [[ -n $path ]]; then
        echo "found $path" && queue+=("$path")
      else
        echo "missing $name"
      fi
    done < <(objdump -p "$file" | awk '$1 == "NEEDED" && $2 !~ /^ld-linux/ { print $2 }')
  done
}

# fetch_program PACKAGE PATH DIR: unpacks PACKAGE under DIR, and of the packages that it depends on as many as it takes for
# all libraries of the program PATH to be there.
fetch_program() {
  local dir=$3 round package
  local -A have=([$1]=1)
  fetch_package "$1" "$dir" || return 1
  for round in 1 2 3 4; do
    [[ -n $(missing_libraries "$dir$2" "$dir") ]] || return 0
    for package in $(apt-cache depends "${!have[@]}" | sed -n 's/^ *Depends: \(lib[^ ]*\|zlib[^ ]*\)$/\1/p' | sort -u); do
      [[ -z ${have[$package]:-} ]] || continue
      have[$package]=1
      fetch_package "$package" "$dir" || return 1
    done
  done
  log "$1 needs libraries that its packages do not bring: $(missing_libraries "$dir$2" "$dir" | tr '\n' ' ')"
  return 1
}
