# The vendor's configuration, the policy of the bus and that of polkit.
dist_vendor_DATA = etc/deepseekd.yaml

dbuspolicydir = $(datadir)/dbus-1/system.d
dist_dbuspolicy_DATA = etc/org.deepseekd1.conf

# polkit: the actions, and a rule for a group of administrators.
polkitactiondir = $(datadir)/polkit-1/actions
dist_polkitaction_DATA = etc/org.deepseekd1.policy
polkitrulesdir = $(datadir)/polkit-1/rules.d
dist_polkitrules_DATA = etc/50-deepseekd.rules

# What the daemon's objects on the bus are like, for tools that generate code from it.
dbusinterfacedir = $(datadir)/dbus-1/interfaces
dist_dbusinterface_DATA = etc/org.deepseekd1.Keys.xml etc/org.deepseekd1.Manager.xml etc/org.deepseekd1.Model.xml \
	etc/org.deepseekd1.Request.xml
