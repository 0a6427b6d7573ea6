"""Who did what, to what, from where and with which token; allowed or denied."""
