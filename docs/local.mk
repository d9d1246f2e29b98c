# Manual pages; the rest is for readers of the source.
dist_man1_MANS = docs/dsctl.1
dist_man5_MANS = docs/org.deepseekd1.5
dist_man8_MANS = docs/deepseekd.8
dist_man7_MANS = docs/deepseekd-plugin.7
man5_MANS = docs/deepseekd.yaml.5
CLEANFILES += docs/deepseekd.yaml.5
EXTRA_DIST += docs/accuracy.md docs/architecture.md docs/deepseekd.yaml.5.in docs/keys.awk docs/performance.md

# The keys are those that the daemon's own table has.
docs/deepseekd.yaml.5: deepseekd$(EXEEXT) $(srcdir)/docs/deepseekd.yaml.5.in $(srcdir)/docs/keys.awk
	$(AM_V_GEN)$(MKDIR_P) docs && ./deepseekd$(EXEEXT) --help >$@.help && \
	awk -v vendordir='$(vendordir)' -f $(srcdir)/docs/keys.awk $@.help $(srcdir)/docs/deepseekd.yaml.5.in >$@.tmp && \
	rm $@.help && mv $@.tmp $@
