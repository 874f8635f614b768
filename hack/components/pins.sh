# Versions of the real components, one pin a line. README.md tells how to bump them.
# Debian pins leave out the "+bN" of a rebuild: that part differs between architectures.
# shellcheck shell=bash disable=SC2034

registry_suite=bookworm
registry_version='2.8.2+ds1-1'

runc_suite=bookworm # The later suites' runc wants a newer glibc than bookworm's.
runc_version='1.1.5+ds1-1+deb12u1'

busybox_suite=bookworm
busybox_version='1:1.35.0-4+deb12u1'

etcd_suite=bookworm
etcd_version='3.4.23-4'

cni_plugins_suite=bookworm
cni_plugins_version='1.1.1+ds1-3'

libseccomp_suite=bookworm # Only to compile runc-1.2 with.
libseccomp_version='2.5.4-1+deb12u1'

containerd_1_7_suite=trixie
containerd_1_7_version='1.7.24~ds1-6+deb13u1'

containerd_2_1_suite=sid # sid moves: when this version is gone, the one served is taken, with a warning.
containerd_2_1_version='2.1.9+ds1-5'

containerd_2_4_version=v2.4.2 # Go module
runc_1_2_version=v1.2.6        # Go module; later ones have replace directives, which `go install` refuses.
kubernetes_version=v1.36.3    # Go module; must agree with kubernetes/go.mod. kubelet is of it too.

isal_suite=bookworm
isal_version='2.30.0-5'

erofs_utils_suite=trixie # bookworm's mkfs.erofs cannot read tar
erofs_utils_version='1.8.6-1'

btrfs_progs_suite=bookworm
btrfs_progs_version='6.2-1+deb12u2'
