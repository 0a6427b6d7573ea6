"""The distribution API (distribution-spec 1.1 and the draft of 1.2), one module for each kind of content below /v2."""
