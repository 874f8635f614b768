#!/bin/sh
# install.sh [DIRECTORY] [NN]: makes the plugin one that the runtime starts by itself, with place NN (default 40) in its
# folder of plugins (default /opt/nri/plugins). Running it again updates it; `rm DIRECTORY/NN-shoal` takes it back.
set -eu

directory=${1:-/opt/nri/plugins}
index=${2:-40}
here=$(CDPATH='' cd -P "$(dirname "$0")" && pwd -P)

case $index in
  [0-9][0-9]) ;;
  *)
    printf 'Cannot install the plugin at place "%s": two digits are wanted\n' "$index" >&2
    exit 1
    ;;
esac
# Fails when the program cannot run, and fills the cache of compiled code: the runtime does not wait long for a plugin, and
# containerd 1.7 does not start without it.
"$here/shoal-nri" --help >/dev/null

umask 022
mkdir -p "$directory"
# Anything else executable in this folder would be taken for a plugin as well, so the file gets its mode last.
temporary=$directory/.shoal-$$
trap 'rm -f "$temporary"' EXIT
cat >"$temporary" <<LAUNCHER
#!/bin/sh
# What the runtime starts: it gives no PATH, and keeps nothing of what is printed. A log that cannot be written is no
# reason not to start.
log=/run/shoal/nri.log
(umask 077 && /bin/mkdir -p /run/shoal && : >"\$log") 2>/dev/null || log=/dev/null
exec "$here/shoal-nri" 2>"\$log"
LAUNCHER
mv "$temporary" "$directory/$index-shoal"
chmod 0755 "$directory/$index-shoal"
printf '%s: started with containerd from its next start on\n' "$directory/$index-shoal"
