# keys.awk - puts the tables of keys that `deepseekd --help` prints into the manual page: HELP first, then the page.
# A row is "  KEY  DEFAULT  WHAT"; the default may be a list or a text with spaces.

function escaped(text)
{
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	gsub(/"/, "\\(dq", text)
	return text
}

FNR == NR && /^Keys of / {
	table = $3
	sub(/[:,]$/, "", table)
	next
}

FNR == NR && table != "" && /^  [^ ]/ {
	key = $1
	row = $0
	sub(/^ *[^ ]+ +/, "", row)
	if (!match(row, /^\[[^]]*\]/) && !match(row, /^"[^"]*"/))
		match(row, /^[^ ]+/)
	value = substr(row, 1, RLENGTH)
	what = substr(row, RLENGTH + 1)
	sub(/^ +/, "", what)
	if (key == "" || what == "") {
		print "keys.awk: a row of deepseekd --help was not understood: " $0 >"/dev/stderr"
		exit 1
	}
	value = value == "(required)" ? " (required)" : " = " value
	keys[table] = keys[table] ".TP\n.BR " escaped(key) " \"" escaped(value) "\"\n\\&" escaped(what) ".\n"
	next
}

FNR == NR { next }

/^\.\\" keys of / {
	if (keys[$4] == "") {
		print "keys.awk: deepseekd --help has no keys of " $4 >"/dev/stderr"
		exit 1
	}
	printf "%s", keys[$4]
	next
}

{
	gsub(/@vendordir@/, vendordir)
	print
}
