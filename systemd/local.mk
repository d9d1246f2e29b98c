# The units, and what the system needs to know of the service: user, directories, preset, its name on the bus, and what the
# journal says of message ids.
systemunitdir = $(prefix)/lib/systemd/system
dist_systemunit_DATA = systemd/deepseekd.socket systemd/deepseekd-metrics.socket
systemunit_DATA = systemd/deepseekd.service
dbusservicedir = $(datadir)/dbus-1/system-services
dist_dbusservice_DATA = systemd/org.deepseekd1.service
exampledir = $(docdir)/examples
dist_example_DATA = systemd/examples/gpu.conf systemd/examples/models.conf systemd/examples/tcp.conf
CLEANFILES += systemd/deepseekd.service
EXTRA_DIST += systemd/deepseekd.service.in systemd/deepseekd.preset systemd/deepseekd.sysusers systemd/deepseekd.tmpfiles

# Old systemd complains about keys it does not know, so the unit has those of the one that was built against.
systemd/deepseekd.service: $(srcdir)/systemd/deepseekd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && sed -e 's|@sbindir[@]|$(sbindir)|' -e 's|@unit_type[@]|$(unit_type)|' \
		-e 's|@exec_reload[@]|$(unit_exec_reload)|' -e 's|@store_preserve[@]|$(unit_store_preserve)|' \
		$(srcdir)/systemd/deepseekd.service.in >$@.tmp && mv $@.tmp $@

# These folders take one name each from every package.
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(prefix)/lib/sysusers.d' '$(DESTDIR)$(prefix)/lib/tmpfiles.d' \
		'$(DESTDIR)$(prefix)/lib/systemd/system-preset'
	$(INSTALL_DATA) '$(srcdir)/systemd/deepseekd.sysusers' '$(DESTDIR)$(prefix)/lib/sysusers.d/deepseekd.conf'
	$(INSTALL_DATA) '$(srcdir)/systemd/deepseekd.tmpfiles' '$(DESTDIR)$(prefix)/lib/tmpfiles.d/deepseekd.conf'
	$(INSTALL_DATA) '$(srcdir)/systemd/deepseekd.preset' \
		'$(DESTDIR)$(prefix)/lib/systemd/system-preset/90-deepseekd.preset'

uninstall-local:
	rm -f '$(DESTDIR)$(prefix)/lib/sysusers.d/deepseekd.conf' '$(DESTDIR)$(prefix)/lib/tmpfiles.d/deepseekd.conf' \
		'$(DESTDIR)$(prefix)/lib/systemd/system-preset/90-deepseekd.preset'

catalogdir = $(prefix)/lib/systemd/catalog
dist_catalog_DATA = systemd/deepseekd.catalog
