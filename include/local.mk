# The plugin ABI: installed for authors of plugins, each header compiled alone by `make check`.
plugin_abi_headers = \
	include/deepseekd/backend.h \
	include/deepseekd/base.h \
	include/deepseekd/dialect.h \
	include/deepseekd/exp.h \
	include/deepseekd/format.h \
	include/deepseekd/model.h \
	include/deepseekd/plugin.h \
	include/deepseekd/quants.h \
	include/deepseekd/sampler.h \
	include/deepseekd/tokenizer.h

deepseekdincludedir = $(includedir)/deepseekd
deepseekdinclude_HEADERS = $(plugin_abi_headers)

# What authors of plugins ask pkg-config: --cflags, --variable=plugindir, plugin_cflags, plugin_ldflags.
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = include/deepseekd.pc
CLEANFILES += include/deepseekd.pc
EXTRA_DIST += include/deepseekd.pc.in

include/deepseekd.pc: $(srcdir)/include/deepseekd.pc.in Makefile
	$(AM_V_GEN)$(MKDIR_P) include && sed -e 's|@prefix[@]|$(prefix)|' -e 's|@exec_prefix[@]|$(exec_prefix)|' \
		-e 's|@libdir[@]|$(libdir)|' -e 's|@includedir[@]|$(includedir)|' -e 's|@plugindir[@]|$(plugindir)|' \
		-e 's|@VERSION[@]|$(VERSION)|' $(srcdir)/include/deepseekd.pc.in >$@.tmp && mv $@.tmp $@
