# The vendor's configuration, the policy of the bus and that of polkit.
dist_vendor_DATA = etc/deepseekd.yaml

dbuspolicydir = $(datadir)/dbus-1/system.d
dist_dbuspolicy_DATA = etc/org.deepseekd1.conf

# polkit: the actions, and a rule for a group of administrators.
polkitactiondir = $(datadir)/polkit-1/actions
dist_polkitaction_DATA = etc/org.deepseekd1.policy
polkitrulesdir = $(datadir)/polkit-1/rules.d
dist_polkitrules_DATA = etc/50-deepseekd.rules
