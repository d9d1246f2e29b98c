#!/bin/sh
# The manual pages hold: they are formatted without a warning, deepseekd.yaml.5 has every key, dsctl.1 every verb and option, and
# the plugin of deepseekd-plugin.7 compiles, passes its vectors and can be used. Run in the build folder.
set -u
source=${srcdir:-.}
work=tests/manual.tmp
rm -rf "$work"
mkdir -p "$work"
failed=0
fail() { echo "$*"; failed=1; }

if command -v man >/dev/null && command -v groff >/dev/null; then
	for page in "$source"/docs/*.[1-8] docs/*.[1-8]; do
		[ -e "$page" ] || continue
		LC_ALL=C.UTF-8 MANROFFSEQ=t man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>"$work/warnings" >/dev/null
		[ ! -s "$work/warnings" ] || fail "$page: $(cat "$work/warnings")"
	done
fi

# Words as a page has them: without fonts and escapes.
plain() { sed -e 's/\\f[BIRP]//g' -e 's/\\-/-/g' -e 's/\\(dq/"/g' "$1"; }

plain docs/deepseekd.yaml.5 >"$work/yaml.5"
./deepseekd --help | sed -n '/^Keys of/,$s/^  \([^ ]*\) .*/\1/p' >"$work/keys"
[ -s "$work/keys" ] || fail "deepseekd --help lists no keys"
while read -r key; do
	grep -q "^\.BR $key " "$work/yaml.5" || fail "deepseekd.yaml.5 lacks the key $key"
done <"$work/keys"

plain "$source/docs/dsctl.1" >"$work/dsctl.1"
./dsctl --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z][a-z ]*[a-z]\).*/\1/p' >"$work/verbs"
[ -s "$work/verbs" ] || fail "dsctl --help lists no verbs"
while read -r verb; do
	grep -Eq "^\.(B|BR|BI|TP) \"?$verb( |\"|\$)" "$work/dsctl.1" || fail "dsctl.1 lacks the verb $verb"
	for option in $(./dsctl --help $verb </dev/null | sed -n 's/^  .*\(--[a-z-]*\).*/\1/p'); do
		grep -q -e "$option" "$work/dsctl.1" || fail "dsctl.1 lacks the option $option of $verb"
	done
done <"$work/verbs"

# The plugin: the block between .EX and .EE that begins with a comment, compiled with the flags that deepseekd.pc tells.
sed -n '/^\/\* /,/^\.EE/{/^\.EE/q;s/\\-/-/g;s/\\e/\\/g;p;}' "$source/docs/deepseekd-plugin.7" >"$work/sampler-cutoff.c"
flags=$(sed -n 's/^plugin_\(c\|ld\)flags=//p' include/deepseekd.pc)
${CC:-cc} $flags -Wall -Wextra -Werror -Wno-unused-parameter -I"$source/include" -o "$work/sampler-cutoff.so" "$work/sampler-cutoff.c" ||
	fail "the plugin of deepseekd-plugin.7 does not compile"
chmod go-w "$work" "$work"/*.so
helpers/ds-loader --describe-plugins --plugin-dir "$PWD/$work" --plugin sampler-cutoff >"$work/described"
grep -q '"state": "ok"' "$work/described" && grep -q '"name": "cutoff"' "$work/described" ||
	fail "the plugin of deepseekd-plugin.7 cannot be used: $(cat "$work/described")"

[ $failed != 0 ] || rm -rf "$work"
exit $failed
