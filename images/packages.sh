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

# To test, and to measure against QEMU.
TEST_PACKAGES=(iproute2 procps spin)
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
