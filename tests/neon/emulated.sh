#!/bin/sh
# The kernels of 64-bit ARM in an emulator, as a CPU that has everything and as one that has only what all have.
set -u
if [ ! -e tests/neon/kernels ]; then
	echo "skipped: there was no aarch64-linux-gnu-gcc to build with"
	exit 77
fi
if ! command -v qemu-aarch64 >/dev/null; then
	echo "skipped: qemu-aarch64 is not here"
	exit 77
fi
failed=0

# emulated CPU BEST [VARIANT]: tests that variant or all of them; @BEST is what has to be chosen.
emulated() {
	echo "as a $1:"
	if ! qemu-aarch64 -cpu "$1" tests/neon/kernels ${3:-} >tests/neon/output 2>&1; then
		failed=1
	fi
	cat tests/neon/output
	if ! grep -qx "The best that this CPU has: $2" tests/neon/output; then
		echo "$2 should have been chosen"
		failed=1
	fi
	rm -f tests/neon/output
}

emulated max neon-dotprod
emulated cortex-a53 neon neon
exit $failed
