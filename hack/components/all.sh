#!/usr/bin/env bash
# all.sh [NAME|GROUP]…: brings components in this order; what cannot be had is told in one line each, and the
# exit code is then 1. Groups: test (what `make test` uses), e2e (test, and what `make e2e` uses besides), cluster (what
# `make e2e-kubernetes` uses). Default: e2e.
. "${BASH_SOURCE[0]%/*}/lib.sh"

test_group='registry runc busybox containerd-2.1 crictl-go btrfs-progs erofs-utils isal'
e2e_group="$test_group containerd-1.7 containerd-2.4 kubelet"
cluster_group="$test_group runc-1.2 etcd cni-plugins kubelet kubernetes"

failed=0
for name in "${@:-e2e}"; do
  case $name in
    test) names=$test_group ;;
    e2e) names=$e2e_group ;;
    cluster) names=$cluster_group ;;
    *) names=$name ;;
  esac
  for one in $names; do
    "$scripts_dir/$one.sh" || failed=1
  done
done
exit "$failed"
