"""The distribution API (distribution-spec 1.1 and the draft of 1.2): a module for each kind of thing below /v2."""
