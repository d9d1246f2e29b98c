# The units, and what the journal says of message ids. Hardening comes with the service's own user.
systemunitdir = $(prefix)/lib/systemd/system
dist_systemunit_DATA = systemd/deepseekd.socket systemd/deepseekd-metrics.socket
systemunit_DATA = systemd/deepseekd.service
CLEANFILES += systemd/deepseekd.service
EXTRA_DIST += systemd/deepseekd.service.in

systemd/deepseekd.service: $(srcdir)/systemd/deepseekd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && sed 's|@sbindir[@]|$(sbindir)|' $(srcdir)/systemd/deepseekd.service.in >$@.tmp && \
	mv $@.tmp $@

catalogdir = $(prefix)/lib/systemd/catalog
dist_catalog_DATA = systemd/deepseekd.catalog
