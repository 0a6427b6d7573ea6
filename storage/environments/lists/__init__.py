"""Lists of environments and builds: who sees what, filters, orders and pages."""
