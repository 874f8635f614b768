#!/usr/bin/env bash
# The OCI registry (Debian docker-registry): bin/docker-registry.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$registry_suite" docker-registry "$registry_version" "$1"
  ln -s ../usr/bin/docker-registry "$1/bin/docker-registry"
}

install_component registry "$registry_version" recipe
