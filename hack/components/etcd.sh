#!/usr/bin/env bash
# etcd (Debian etcd-server): bin/etcd.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$etcd_suite" etcd-server "$etcd_version" "$1"
  ln -s ../usr/bin/etcd "$1/bin/etcd"
}

install_component etcd "$etcd_version" recipe
