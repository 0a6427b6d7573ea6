"""Who did what to what, from where, with which token; allowed or denied."""
