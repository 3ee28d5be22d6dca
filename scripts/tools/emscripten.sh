#!/usr/bin/env bash
# Finds Emscripten >= 3.1.69, or unpacks Debian 13's into .toolchain/; writes .toolchain/env.sh either way.
#
# Debian 12's own package (3.1.6) has no relaxed SIMD and no --emit-tsd, so its successor's is taken from the mirror that
# this machine already uses, without touching the system: clang-19 is the system's, the newer libc stays in the prefix.
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"
readonly wanted=3.1.69

compiles() {  # a small Embind module with every flag the project builds with
  local dir
  dir=$(mktemp -d)
  cat >"$dir/hello.cc" <<'END'
#include <emscripten/bind.h>
#include <wasm_simd128.h>
static int relaxed(int x) {
  return wasm_i8x16_extract_lane(wasm_i8x16_relaxed_swizzle(wasm_i8x16_splat(static_cast<int8_t>(x)), wasm_i8x16_splat(1)), 0);
}
EMSCRIPTEN_BINDINGS(hello) { emscripten::function("relaxed", &relaxed); }
END
  if (
    # shellcheck disable=SC1091
    source .toolchain/env.sh && cd "$dir" && em++ hello.cc -o hello.mjs -std=c++20 -O3 -flto -msimd128 -mrelaxed-simd \
      -fno-exceptions -fno-rtti -DEMSCRIPTEN_HAS_UNBOUND_TYPE_NAMES=0 -lembind -sEMBIND_AOT=1 -sDYNAMIC_EXECUTION=0 \
      -sMODULARIZE -sEXPORT_ES6 -sENVIRONMENT=web,worker,node &&
      echo 'const module = await (await import("./hello.mjs")).default(); process.exit(module.relaxed(42) === 42 ? 0 : 1);' >run.mjs &&
      "$repo/scripts/tools/relaxed_node" run.mjs
  ) >"$dir/log" 2>&1; then
    rm -r "$dir"
  else
    cat "$dir/log" >&2
    rm -r "$dir"
    return 1
  fi
}

# What names places is written anew by each set-up, because a checkout may be moved.
place() {
  write_environment
  python3 - "$toolchain" "$repo" <<'END' | replace "$toolchain/bin/.emscripten"
import sys
toolchain, repo = sys.argv[1:]
print(f"EMSCRIPTEN_ROOT = {toolchain + '/debian/usr/share/emscripten'!r}")
print("LLVM_ROOT = '/usr/lib/llvm-19/bin'")
print(f"BINARYEN_ROOT = {toolchain + '/binaryen'!r}")
print(f"NODE_JS = {[repo + '/scripts/tools/relaxed_node']!r}")
print(f"CACHE = {toolchain + '/debian/usr/share/emscripten/cache'!r}")
print("FROZEN_CACHE = True")
END
}

own=$(command -v em++ || true)
version=$([ -z "$own" ] || em++ --version 2>/dev/null | sed -n 's/^emcc .* \([0-9]\+\.[0-9.]\+\).*/\1/p')
case $own in */.toolchain/*) version= ;; esac  # private to this checkout, or to another
if [ -n "$version" ] && version_at_least "$version" "$wanted"; then
  stamp=$own-$version
  if is_stamped "$toolchain/stamp" "$stamp"; then
    write_environment
    exit 0
  fi
  say "trying em++ $version from the PATH"
  rm -rf "${toolchain:?}"/{stamp,bin,debian,binaryen}
  write_environment
  if compiles; then
    echo "$stamp" >"$toolchain/stamp"
    exit 0
  fi
  warn "that em++ cannot build the modules (its messages are above): making a private one"
fi

stamp=$(stamp_of "$0")
if is_stamped "$toolchain/stamp" "$stamp"; then
  scripts/tools/packages.sh wasm
  place
  exit 0
fi
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if ! have apt-get || [ ! -f "$keyring" ]; then
  die "em++ >= $wanted is not on the PATH and this is not Debian. Install emsdk (any version from $wanted), put its em++ on the PATH, then run the command again."
fi
scripts/tools/packages.sh wasm

# The Debian mirror in use: the site of this release's main component.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(COMPONENT) $(SITE)' 'Created-By: Packages' | awk '$1 == "main" && $2 ~ /debian\/?$/ { print $2; exit }')
[ -n "$mirror" ] || die "no Debian mirror among apt's sources. Add one, or put em++ >= $wanted on the PATH."

say "fetching Emscripten from Debian 13 into .toolchain/ (about 250 MB, once)"
prefix=$toolchain/debian
apt=$(mktemp -d)  # outside the checkout, whose path apt would take apart
trap 'rm -rf "$apt"' EXIT
rm -rf "${toolchain:?}"/{stamp,bin,debian,binaryen}
mkdir -p build/logs "$apt"/{lists/partial,cache/archives/partial,debs} "$prefix"
readonly log=$repo/build/logs/emscripten.log
echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
private_apt() {
  apt-get -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" "$@" >>"$log" 2>&1
}
fetch() { private_apt update && cd "$apt/debs" && private_apt download emscripten binaryen node-acorn libc6 libstdc++6 libgcc-s1; }
: >"$log"
if ! (fetch); then
  tail -n 20 "$log" >&2
  die "Emscripten could not be fetched from $mirror: $(why_fetching_failed "$log"). Or put em++ >= $wanted on the PATH."
fi
for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$prefix" || die "$(basename "$deb") could not be unpacked into .toolchain/ (is the disk full?)."; done

# Most of the 1.7 GB is prebuilt variants of the system libraries that this project never links.
emscripten=$prefix/usr/share/emscripten
libraries=$emscripten/cache/sysroot/lib
rm -rf "$emscripten/test" "$libraries/wasm64-emscripten" "$libraries"/wasm32-emscripten/{pic,lto-pic}
find "$libraries" \( -name '*-ww*' -o -name '*[alu]*san*' -o -name 'libwasmfs*' -o -name 'libwebgpu*' -o -name '*-except.a' \) -delete

# Its CommonJS files must not inherit "type": "module" from this repository's package.json.
echo '{}' >"$toolchain/package.json"

# The optimiser imports acorn from a node_modules folder beside it.
mkdir -p "$emscripten/node_modules"
ln -sfn ../../nodejs/acorn "$emscripten/node_modules/acorn"
ln -sfn debian/usr/share/emscripten "$toolchain/bin"

# binaryen's programs were linked against Debian 13's libc, so each runs through the prefix's own loader.
mkdir -p "$toolchain/binaryen/bin"
loader=$(cd "$prefix/usr/lib" && echo *-linux-gnu/ld-linux-*.so.*)
for program in "$prefix"/usr/bin/wasm*; do
  wrapper=$toolchain/binaryen/bin/$(basename "$program")
  cat >"$wrapper" <<END
#!/bin/sh
debian=\$(dirname "\$0")/../../debian/usr
exec "\$debian/lib/$loader" --library-path "\$debian/lib/$(dirname "$loader")" "\$debian/bin/$(basename "$program")" "\$@"
END
  chmod +x "$wrapper"
done

place
compiles || die "the private Emscripten does not work on this machine (its messages are above). Put another em++ >= $wanted on the PATH."
echo "$stamp" >"$toolchain/stamp"
say "Emscripten is ready in .toolchain/ ($(du -sh "$prefix" | cut -f 1))"
