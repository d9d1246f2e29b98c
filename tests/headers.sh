#!/bin/sh
# Each header compiles alone, seeing no more than its folder may: the plugin ABI itself alone, plugins not lib/.
set -u
cd "${srcdir:-.}" || exit 1
flags="-std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-parameter -fsyntax-only -x c"
libraries=$(pkg-config --cflags libevent_core libsystemd yaml-0.1 jansson libpcre2-8 libutf8proc openblas libcurl libedit)
failed=0

# check HEADER FLAGS...; it is included, not compiled, so that its "#pragma once" is no main file's.
check() {
	header=$1
	shift
	if ! printf '#include "%s"\n' "$header" | ${CC:-cc} $flags "$@" -I. -; then
		echo "$header does not compile alone"
		failed=1
	fi
}

for header in include/deepseekd/*.h; do
	check "$header" -Iinclude
done
for header in plugins/*/*.h; do
	# Templates: included where their vector type has been defined.
	case $header in plugins/backend-cpu/kernels-*simd.h | plugins/backend-cpu/kernels-blocks.h | \
		plugins/backend-cpu/kernels-x86.h | plugins/backend-cpu/tiles-*.h) continue ;; esac
	check "$header" -Iinclude "-I$(dirname "$header")" $libraries
done
for header in $(find lib engine daemon helpers client -name '*.h'); do
	check "$header" -Iinclude -Ilib "-I$(dirname "$header")" $libraries
done
exit $failed
