#!/usr/bin/env bash
# CNI plugins (Debian containernetworking-plugins): bin/{ptp,bridge,host-local,loopback,portmap,…}.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$cni_plugins_suite" containernetworking-plugins "$cni_plugins_version" "$1"
  rmdir "$1/bin" && ln -s usr/lib/cni "$1/bin"
}

install_component cni-plugins "$cni_plugins_version" recipe
