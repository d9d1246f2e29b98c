# The vendor's configuration and the policy of the bus.
dist_vendor_DATA = etc/deepseekd.yaml

dbuspolicydir = $(datadir)/dbus-1/system.d
dist_dbuspolicy_DATA = etc/org.deepseekd1.conf
