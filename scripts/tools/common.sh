# What the shell scripts share: where the repository is, how to speak, how to stop, who is at work.  Sourced, not run.
# shellcheck shell=bash
set -euo pipefail
unset CDPATH
export LC_ALL=C.UTF-8 PYTHONUTF8=1  # every text here is UTF-8, and messages are looked at in English, whatever the locale

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P && printf x)
repo=${repo%$'\n'x}  # a line break at the end of the path survives, to be refused below
# shellcheck disable=SC2034  # for those who source this file
toolchain=$repo/.toolchain
cd "$repo"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
warn() { printf '\033[1;33mwarning:\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# version_at_least FOUND WANTED: true when FOUND is WANTED or newer.
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# node_suits VERSION: true for those that Vite, Vitest and ESLint run with (odd ones are short-lived).
node_suits() {
  local version=${1#v}
  case $version in
    20.*) version_at_least "$version" 20.19 ;;
    22.*) version_at_least "$version" 22.13 ;;
    *) version_at_least "$version" 24 ;;
  esac
}

# A stamp remembers the contents of the files that a set-up step depends on.
stamp_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }
is_stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# single_quoted TEXT: TEXT as a word for sh.
single_quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# check_tree: refuses, before anything is fetched, a place where the set-up or a build is going to fail.
check_tree() {
  local part refused=$'[[:cntrl:]:;"\\#%|<>*?`]'  # PATH has no room for a colon, Vite for #, wasm-ld for %, CMake and ninja for the others
  if [[ $repo =~ $refused ]]; then
    die "the path of this checkout has the character $(printf '%q' "${BASH_REMATCH[0]}") in it, which the build tools cannot take: $(printf '%q' "$repo"). Move the checkout, then run the command again."
  fi
  for part in . .toolchain .venv build dist node_modules web/dist web/src/wasm; do
    if [ -e "$part" ] && [ ! -w "$part" ]; then
      die "$repo/$part cannot be written to by $(id -un) (it belongs to $(stat -c %U "$part"), or its file system is read-only). Make it writable, or clone the repository to a place that is."
    fi
  done
}

# hold_tree WHO: one script at a time sets up, builds or tests in this tree; those it starts work under its lock.
hold_tree() {
  [ "${TERN_TREE_HELD:-}" != "$repo" ] || return 0
  check_tree
  have flock || return 0
  mkdir -p build
  exec {tree_lock}>>build/lock
  if ! flock --nonblock "$tree_lock"; then
    say "$(cat build/lock) is at work in this tree: waiting for it to end (Ctrl-C gives up)"
    flock "$tree_lock"
  fi
  printf '%s (process %d, since %s)' "$1" $$ "$(date +%H:%M)" >build/lock
  export TERN_TREE_HELD=$repo
}

# release_tree: for a script that goes on without writing anything.
release_tree() {
  [ -z "${tree_lock:-}" ] || exec {tree_lock}>&-
  unset TERN_TREE_HELD
}

# build PRESET [--target NAME...]: configures and builds.  What was configured in another place (the checkout was moved or
# copied), or with an Emscripten that has gone, is made anew.
build() {
  local cache=build/$1/CMakeCache.txt emscripten
  if [ -f "$cache" ]; then
    emscripten=$(sed -n 's/^CMAKE_TOOLCHAIN_FILE:[A-Z]*=//p' "$cache")
    if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$repo" "$cache" || [ ! -f "${emscripten:-$cache}" ]; then
      say "build/$1 was made when this checkout or its Emscripten was elsewhere: making it anew"
      rm -rf "build/$1"
    fi
  fi
  cmake --preset "$1" >/dev/null && cmake --build --preset "$@"
}

# why_fetching_failed LOG: what npm, pip or apt-get was stopped by, as the end of a sentence.
why_fetching_failed() {
  local pattern
  while IFS='|' read -r reason pattern; do
    if grep -qE "$pattern" "$1"; then
      printf '%s' "$reason"
      return
    fi
  done <<'END'
the disk is full|ENOSPC|No space left
a file or folder cannot be written (its name is above)|EACCES|EPERM|EROFS|Permission denied|Read-only file system
what arrived is not what was asked for (its checksum is another)|EINTEGRITY|DO NOT MATCH THE HASHES|Hash Sum mismatch
the server's certificate is not trusted here (a proxy may need its own: NODE_EXTRA_CA_CERTS for npm, PIP_CERT for pip)|CERT_|_CERT|certificate verify failed|CERTIFICATE_VERIFY
the server cannot be reached: look at the network and the proxy settings|ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENET|EHOST|SOCKET_TIMEOUT|NewConnectionError|ConnectTimeout|ProxyError|Temporary failure|Could not (resolve|connect)|Connection (timed out|refused)|unreachable
the server does not have it|E404|ETARGET|No matching distribution|404  Not Found
END
  printf 'its message is above'
}

# replace FILE: standard input becomes its contents, at once.
replace() { cat >"$1.new" && mv "$1.new" "$1"; }

# write_environment: .toolchain/env.sh, which names places and is therefore written anew by each set-up.
write_environment() {
  local path=""
  mkdir -p "$toolchain"
  {
    echo '# Puts what .toolchain/ holds, and the Node programs of node_modules/, on the PATH: source .toolchain/env.sh'
    if [ -d "$toolchain/debian" ]; then
      echo "export EM_CONFIG=$(single_quoted "$toolchain/bin/.emscripten")"
      path+=$(single_quoted "$toolchain/bin:$toolchain/binaryen/bin:")
    fi
    if [ -d "$toolchain/node" ]; then path+=$(single_quoted "$toolchain/node/bin:"); fi
    echo "export PATH=$path$(single_quoted "$repo/node_modules/.bin:")\"\$PATH\""
  } | replace "$toolchain/env.sh"
}
