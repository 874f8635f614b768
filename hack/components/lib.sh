# Functions shared by the component scripts: a component is brought once, version-pinned, into a prefix of its own
# below .cache/components, by a recipe that may be cut off and started again at any time.
# shellcheck shell=bash
set -euo pipefail

scripts_dir=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
components_dir=${SHOAL_COMPONENTS_DIR:-${scripts_dir%/hack/components}/.cache/components}
# shellcheck source=hack/components/pins.sh
. "$scripts_dir/pins.sh"

# The machine's own sources name the mirror; this one is for machines whose apt knows no Debian mirror.
default_mirror=http://deb.debian.org/debian
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Package lists older than this are fetched again, but only when a package has to be downloaded at all.
lists_age_minutes_max=1440
lock_wait_seconds=1800 # The slowest recipe takes five minutes on two idle cores.

say() { printf '%s\n' "components: $*" >&2; }

# give_up REASON: one line for people, the same line for path.sh and for the tests' skip messages.
give_up() {
  mkdir -p "$components_dir"
  printf '%s\n' "$*" >"$components_dir/.${component:-unknown}.missing"
  say "${component:-unknown}: $*"
  exit 1
}

# install_component NAME PIN RECIPE: calls RECIPE with an empty staging prefix, unless PIN is there already.
# RECIPE fills it and sets `installed_version`. NAME becomes a link to NAME-<installed version>.
install_component() {
  component=$1
  local pin=$2 recipe=$3 stamp="$components_dir/$1/.complete"
  if stamp_is "$stamp" "$pin"; then return 0; fi
  mkdir -p "$components_dir" || exit 1
  exec {lock}>"$components_dir/.$component.lock"
  flock -w "$lock_wait_seconds" "$lock" || give_up 'another installation of it has held the lock for half an hour'
  if stamp_is "$stamp" "$pin"; then return 0; fi

  say "$component: installing $pin"
  local staging="$components_dir/.$component.staging" started=$SECONDS
  rm -rf "$staging" && mkdir -p "$staging/bin"
  installed_version=$pin
  "$recipe" "$staging"
  printf '%s\n' "$pin" >"$staging/.complete"
  publish "$staging" "$component-$(path_safe "$installed_version")"
  say "$component: $installed_version installed in $((SECONDS - started)) s"
  exec {lock}>&-
}

stamp_is() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }

path_safe() { printf '%s' "${1//[:\/~]/_}"; }

# publish STAGING FOLDER: the prefix and then the link appear in one step each; the prefix before it goes.
publish() {
  local before
  before=$(readlink "$components_dir/$component" || true)
  rm -rf "${components_dir:?}/$2"
  mv "$1" "$components_dir/$2"
  ln -sfn "$2" "$components_dir/.$component.link"
  mv -T "$components_dir/.$component.link" "$components_dir/$component"
  rm -f "$components_dir/.$component.missing"
  if [ -n "$before" ] && [ "$before" != "$2" ]; then rm -rf "${components_dir:?}/$before"; fi
}

# --- Debian packages, through the machine's apt but with lists, cache and settings of our own ---

# debian_unpack SUITE PACKAGE PIN PREFIX: sets `installed_version`.
debian_unpack() {
  local suite=$1 package=$2 pin=$3 prefix=$4 deb
  need_debian_tools
  deb=$(debian_download "$suite" "$package" "$pin") || exit 1
  installed_version=${deb##*/}
  installed_version=${installed_version#"${package}"_}
  installed_version=${installed_version%_*.deb}
  installed_version=${installed_version//%3a/:}
  dpkg-deb -x "$deb" "$prefix"
}

need_debian_tools() {
  local tool
  for tool in apt-get apt-cache apt-config dpkg-deb; do
    command -v "$tool" >/dev/null || give_up "needs $tool, so a machine with Debian's package tools"
  done
  [ -r "$keyring" ] || give_up "needs $keyring: install the package debian-archive-keyring"
}

# Prints the path of the downloaded package file; a complete earlier download is used again.
debian_download() {
  local suite=$1 package=$2 pin=$3 apt_dir="$components_dir/apt/$1" version file
  mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/debs"
  exec {apt_lock}>"$apt_dir/.lock"
  flock -w "$lock_wait_seconds" "$apt_lock" || give_up "another run has held apt's lists of $suite for half an hour"
  write_apt_settings "$suite" "$apt_dir"
  refresh_lists "$apt_dir"
  version=$(served_version "$apt_dir" "$package" "$pin")
  if [ -z "$version" ]; then
    refresh_lists "$apt_dir" now
    version=$(served_version "$apt_dir" "$package" "$pin")
  fi
  [ -n "$version" ] || give_up "Debian $suite serves no $package for this architecture"
  case $version in
    "$pin" | "$pin"+b*) ;;
    *) say "warning: $package $pin is no longer served by Debian $suite; taking $version" ;;
  esac
  fetch_deb "$apt_dir" "$package" "$version"
  file=$(newest_deb "$apt_dir" "$package" "$version")
  [ -n "$file" ] || give_up "the download of $package $version left no package file"
  printf '%s\n' "$file"
}

# Of the machine's apt only the ways out are kept (proxy, credentials, timeouts): no hooks, no sources, no pins.
write_apt_settings() {
  local suite=$1 apt_dir=$2
  : >"$apt_dir/status"
  # The machine's settings may hold a proxy's password.
  install -m 600 /dev/null "$apt_dir/apt.conf"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$(debian_mirror)" "$suite" >"$apt_dir/sources.list"
  {
    env -u APT_CONFIG apt-config dump 2>/dev/null | grep '^Acquire::' | grep -v '^Acquire::\(Changelogs\|Languages\)' || true
    printf '%s;\n' \
      'Dir::Etc::main "/dev/null"' 'Dir::Etc::parts "/dev/null"' \
      'Dir::Etc::sourceparts "/dev/null"' 'Dir::Etc::preferencesparts "/dev/null"' \
      "Dir::Etc::sourcelist \"$apt_dir/sources.list\"" \
      "Dir::State \"$apt_dir\"" "Dir::State::status \"$apt_dir/status\"" "Dir::Cache \"$apt_dir/cache\"" \
      'Dir::Cache::pkgcache ""' 'Dir::Cache::srcpkgcache ""' \
      'Acquire::Languages "none"' 'Acquire::GzipIndexes "true"' 'Acquire::Retries "3"'
    # A mirror that stands still is good enough for pinned versions; the signature is checked all the same.
    printf '%s;\n' 'Acquire::Check-Valid-Until "false"'
    # apt's download user cannot enter a checkout below a private home directory.
    if [ "$(id -u)" = 0 ]; then printf '%s;\n' 'APT::Sandbox::User "root"'; fi
  } >"$apt_dir/apt.conf"
}

debian_mirror() {
  local mirror
  mirror=$(env -u APT_CONFIG apt-get indextargets --format '$(REPO_URI)' 2>/dev/null |
    grep -E '/debian/?$' | grep -v security | head -n 1) || true
  printf '%s\n' "${mirror:-$default_mirror}"
}

refresh_lists() {
  local apt_dir=$1 when=${2:-}
  if [ -z "$when" ] && [ -n "$(find "$apt_dir/.updated" -mmin "-$lists_age_minutes_max" 2>/dev/null)" ]; then
    return 0
  fi
  if APT_CONFIG="$apt_dir/apt.conf" apt-get -qq update >"$apt_dir/update.log" 2>&1; then
    touch "$apt_dir/.updated"
  elif [ ! -f "$apt_dir/.updated" ]; then
    give_up "apt-get update failed for ${apt_dir##*/}: $(tail -n 1 "$apt_dir/update.log")"
  fi
}

# The pin or a rebuild of it when served, else whatever version the suite has now, else nothing.
served_version() {
  local apt_dir=$1 package=$2 pin=$3 served
  served=$(APT_CONFIG="$apt_dir/apt.conf" apt-cache madison "$package" 2>/dev/null | awk -F' *[|] *' '{print $2}')
  printf '%s\n' "$served" | awk -v pin="$pin" '
    { if (first == "") first = $0 }
    $0 == pin || index($0, pin "+b") == 1 { print; found = 1; exit }
    END { if (!found && first != "") print first }'
}

fetch_deb() {
  local apt_dir=$1 package=$2 version=$3
  if [ -n "$(newest_deb "$apt_dir" "$package" "$version")" ]; then return 0; fi
  download() { (cd "$apt_dir/debs" && APT_CONFIG="$apt_dir/apt.conf" apt-get -qq download "$package=$version") >"$apt_dir/download.log" 2>&1; }
  # Lists and pool can disagree for a moment when the mirror moves: once more with fresh lists.
  if ! download; then
    refresh_lists "$apt_dir" now
    download || give_up "apt-get download $package=$version failed: $(tail -n 1 "$apt_dir/download.log")"
  fi
}

newest_deb() {
  local apt_dir=$1 package=$2 version=${3//:/%3a} file
  for file in "$apt_dir/debs/${package}_${version}"_*.deb; do
    if [ -f "$file" ] && dpkg-deb -I "$file" >/dev/null 2>&1; then printf '%s\n' "$file"; fi
  done | tail -n 1
}

# --- Go programs ---

# From 1.21 on, go fetches the toolchain that a module asks for.
need_go() {
  local wanted='needs Go 1.21 or later: install it and put go in PATH' version
  command -v go >/dev/null || give_up "$wanted"
  version=$(go env GOVERSION) || give_up "$wanted"
  [[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge 21 ]] || give_up "$wanted (found $version)"
}

# go_quiet ARGS…: runs go with low priority, without cgo unless cgo=1; only a failure is shown, by its last lines.
go_quiet() {
  local log="$components_dir/.$component.go.log"
  if ! CGO_ENABLED=${cgo:-0} nice -n 10 go "$@" >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    give_up "go $1 failed, see $log"
  fi
}
