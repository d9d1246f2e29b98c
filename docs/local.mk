# Manual pages; the rest is for readers of the source.
dist_man1_MANS = docs/dsctl.1
EXTRA_DIST += docs/accuracy.md docs/architecture.md
