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
  cat >"$dir/hello.cc" <<'EOF'
#include <emscripten/bind.h>
#include <wasm_simd128.h>
static int relaxed(int x) {
  return wasm_i8x16_extract_lane(wasm_i8x16_relaxed_swizzle(wasm_i8x16_splat(static_cast<int8_t>(x)), wasm_i8x16_splat(1)), 0);
}
EMSCRIPTEN_BINDINGS(hello) { emscripten::function("relaxed", &relaxed); }
EOF
  if (
    # shellcheck disable=SC1090
    source "$1" && em++ "$dir/hello.cc" -o "$dir/hello.mjs" -std=c++20 -O3 -flto -msimd128 -mrelaxed-simd -fno-exceptions -fno-rtti \
      -DEMSCRIPTEN_HAS_UNBOUND_TYPE_NAMES=0 -lembind -sEMBIND_AOT=1 -sDYNAMIC_EXECUTION=0 \
      -sMODULARIZE -sEXPORT_ES6 -sENVIRONMENT=web,worker,node &&
      node "${node_flags[@]}" --input-type=module -e "
      const module = await (await import('file://$dir/hello.mjs')).default();
      process.exit(module.relaxed(42) === 42 ? 0 : 1);"
  ) >"$dir/log" 2>&1; then
    rm -r "$dir"
  else
    cat "$dir/log" >&2
    return 1
  fi
}

# Node 20 knows relaxed SIMD behind a flag only; Emscripten itself runs the module that it has built, to prepare the bindings.
node_flags=()
case $(node --version) in v20.*) node_flags=(--experimental-wasm-relaxed-simd) ;; esac

own=$(command -v em++ || true)
version=$([ -z "$own" ] || em++ --version 2>/dev/null | sed -n 's/^emcc .* \([0-9]\+\.[0-9.]\+\).*/\1/p')
case $own in "$toolchain"/*) version= ;; esac
if [ -n "$version" ] && version_at_least "$version" "$wanted"; then
  stamp=$own-$version
  if is_stamped "$toolchain/stamp" "$stamp"; then exit 0; fi
  say "trying em++ $version from the PATH"
  mkdir -p "$toolchain"
  echo '# em++ is on the PATH already.' >"$toolchain/env.sh"
  if compiles "$toolchain/env.sh"; then
    echo "$stamp" >"$toolchain/stamp"
    exit 0
  fi
  warn "that em++ cannot build the modules (its messages are above): making a private one"
fi

stamp=$(stamp_of "$0")-$repo
if is_stamped "$toolchain/stamp" "$stamp"; then
  scripts/tools/packages.sh wasm
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
apt=$toolchain/apt prefix=$toolchain/debian
rm -rf "${toolchain:?}"
mkdir -p "$apt"/{lists/partial,cache/archives/partial,debs} "$prefix"
echo "deb [signed-by=$keyring] $mirror trixie main" >"$apt/sources.list"
private_apt() {
  apt-get -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@" >&2
}
private_apt update || die "Debian 13's package lists could not be read from $mirror. Check the network, or put em++ >= $wanted on the PATH."
(cd "$apt/debs" && private_apt download emscripten binaryen node-acorn libc6 libstdc++6 libgcc-s1)
for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$prefix"; done

# Most of the 1.7 GB is prebuilt variants of the system libraries that this project never links.
emscripten=$prefix/usr/share/emscripten
libraries=$emscripten/cache/sysroot/lib
rm -rf "$apt" "$emscripten/test" "$libraries/wasm64-emscripten" "$libraries"/wasm32-emscripten/{pic,lto-pic}
find "$libraries" \( -name '*-ww*' -o -name '*[alu]*san*' -o -name 'libwasmfs*' -o -name 'libwebgpu*' -o -name '*-except.a' \) -delete

# Its CommonJS files must not inherit "type": "module" from this repository's package.json.
echo '{}' >"$toolchain/package.json"

# The optimiser imports acorn from a node_modules folder beside it.
mkdir -p "$emscripten/node_modules"
ln -sfn "$prefix/usr/share/nodejs/acorn" "$emscripten/node_modules/acorn"

# binaryen's programs were linked against Debian 13's libc, so each runs through the prefix's own loader.
mkdir -p "$toolchain/binaryen/bin"
loader=$(find "$prefix/usr/lib" -name 'ld-linux-*.so.*' -path '*-linux-gnu/*' | head -n 1)
for program in "$prefix"/usr/bin/wasm*; do
  wrapper=$toolchain/binaryen/bin/$(basename "$program")
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$(dirname "$loader")" "$program" >"$wrapper"
  chmod +x "$wrapper"
done

node_command="'$(command -v node)'$([ ${#node_flags[@]} -eq 0 ] || printf ", '%s'" "${node_flags[@]}")"
cat >"$emscripten/.emscripten" <<EOF
EMSCRIPTEN_ROOT = '$emscripten'
LLVM_ROOT = '/usr/lib/llvm-19/bin'
BINARYEN_ROOT = '$toolchain/binaryen'
NODE_JS = [$node_command]
CACHE = '$emscripten/cache'
FROZEN_CACHE = True
EOF
ln -s "$emscripten" "$toolchain/bin"
cat >"$toolchain/env.sh" <<EOF
# Puts this project's Emscripten and the Node programs it calls (tsc) on the PATH: source .toolchain/env.sh
export EM_CONFIG='$emscripten/.emscripten'
export PATH='$toolchain/bin':'$toolchain/binaryen/bin':'$repo/node_modules/.bin':"\$PATH"
EOF
compiles "$toolchain/env.sh" || die "the private Emscripten does not work on this machine (its messages are above). Put another em++ >= $wanted on the PATH."
echo "$stamp" >"$toolchain/stamp"
say "Emscripten is ready in .toolchain/ ($(du -sh "$toolchain" | cut -f 1))"
